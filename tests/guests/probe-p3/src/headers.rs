//! Headers without end.

use wasip3::http::types::{Fields, Request};
use wasip3::wit_future;

/// Makes twenty megabytes of headers, in pieces that each are what one may be; keeps them if it is to.
pub fn make(way: &str, keeps: bool) {
    let (name, value) = ("x".to_owned(), vec![b'x'; 100 << 10]);
    let one = || Fields::from_list(&[(name.clone(), value.clone())]).expect("headers that may be");
    let request = |headers| Request::new(headers, None, wit_future::new(|| Ok(None)).1, None).0;
    let first = one();
    let (mut headers, mut requests) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        match way {
            "from-list" => headers.push(one()),
            "append" => {
                headers.push(Fields::new());
                headers.last().expect("one").append(&name, &value).expect("a header that may be");
            }
            "set" => {
                headers.push(Fields::new());
                headers.last().expect("one").set(&name, &[value.clone()]).expect("a header that may be");
            }
            "clone" => headers.push(first.clone()),
            "request" => requests.push(request(one())),
            _ => {
                requests.push(request(Fields::new()));
                let authority = "x".repeat(value.len());
                requests.last().expect("one").set_authority(Some(&authority)).expect("an authority");
            }
        }
        if !keeps {
            headers.clear();
            requests.clear();
        }
    }
    std::hint::black_box((headers, requests));
}
