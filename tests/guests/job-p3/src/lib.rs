//! A process of the world `k8w:pod/job-p3`: it asks a server of its cluster, and prints what that says.

wit_bindgen::generate!({
    path: "../../../wit/pod",
    world: "job-p3",
    generate_all,
});

use wasi::http0_3_0::client;
use wasi::http0_3_0::types::{ErrorCode, Fields, Request, Response, Scheme};

struct Job;

export!(Job);

impl exports::wasi::cli0_3_0::run::Guest for Job {
    async fn run() -> Result<(), ()> {
        let authority = wasi::cli0_3_0::environment::get_arguments().pop().unwrap_or_default();
        match ask(authority).await {
            Ok(answer) => {
                print(format!("it says: {answer}")).await;
                Ok(())
            }
            Err(error) => {
                print(format!("{error:?}\n")).await;
                Err(())
            }
        }
    }
}

async fn ask(authority: String) -> Result<String, ErrorCode> {
    let (_, trailers) = wit_future::new(|| Ok(None));
    let request = Request::new(Fields::new(), None, trailers, None).0;
    request.set_scheme(Some(&Scheme::Http)).map_err(|()| ErrorCode::ConfigurationError)?;
    request.set_authority(Some(&authority)).map_err(|()| ErrorCode::ConfigurationError)?;
    request.set_path_with_query(Some("/job")).map_err(|()| ErrorCode::ConfigurationError)?;
    let answer = client::send(request).await?;
    let (_, done) = wit_future::new(|| Ok(()));
    let (body, _) = Response::consume_body(answer, done);
    Ok(String::from_utf8_lossy(&body.collect().await).into_owned())
}

async fn print(text: String) {
    let (mut writer, reader) = wit_stream::new();
    let written = wasi::cli0_3_0::stdout::write_via_stream(reader);
    writer.write_all(text.into_bytes()).await;
    drop(writer);
    written.await.expect("standard output takes lines");
}
