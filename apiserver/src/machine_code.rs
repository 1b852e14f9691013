//! Machine code for nodes that are too small to compile: the path, for whom `k8w:machine-code` allows it. The API server has
//! no compiler; whoever puts it together may connect one.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::Method;

use crate::ApiServer;
use crate::call::Call;
use crate::routes::Answer;
use crate::status::Status;

/// Answers [`PATH`](k8w_kinds::machine_code::PATH).
pub fn serve(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        if call.parts.method != Method::POST {
            return Err(Status::no_such_method());
        }
        match server.compiler() {
            Some(compiler) => compiler.compile(call).await,
            None => Err(Status::unavailable("this control plane has no compiler")),
        }
    })
}
