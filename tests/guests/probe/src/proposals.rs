//! Interfaces that are not part of a WASI release yet.

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package k8w:probe;

        world proposals {
            include k8w:host/config;
            include k8w:host/keyvalue;
            include k8w:host/logging;
        }
    ",
    generate_all,
});

use wasi::config::store as config;
use wasi::keyvalue::{atomics, batch, store};
use wasi::logging::logging::{Level, log};

/// A value of the configuration, and how many there are.
pub fn config(key: &str) -> String {
    let value = config::get(key).expect("the configuration can be read");
    format!("{value:?} of {}", config::get_all().expect("the configuration can be read").len())
}

/// Uses every function on a bucket; the number says how often this was done before.
pub fn keyvalue(bucket: &str) -> String {
    let run = || -> Result<String, store::Error> {
        let bucket = store::open(bucket)?;
        let times = atomics::increment(&bucket, "times", 1)?;
        bucket.set("one", b"1")?;
        batch::set_many(&bucket, &[("two".to_owned(), b"2".to_vec()), ("three".to_owned(), b"3".to_vec())])?;
        let many = batch::get_many(&bucket, &["two".to_owned(), "none".to_owned()])?;
        bucket.delete("one")?;
        batch::delete_many(&bucket, &["three".to_owned()])?;
        let keys = bucket.list_keys(None)?.keys;
        Ok(format!("{times} {many:?} {:?} {} {keys:?}", bucket.get("two")?, bucket.exists("one")?))
    };
    run().unwrap_or_else(|error| format!("{error:?}"))
}

/// Sets a value of so many bytes.
pub fn fill(bytes: usize) -> String {
    let set = store::open("").and_then(|bucket| bucket.set("big", &vec![0; bytes]));
    format!("{set:?}")
}

pub fn say(message: &str) {
    log(Level::Warn, "probe", message);
    log(Level::Info, "", message);
}
