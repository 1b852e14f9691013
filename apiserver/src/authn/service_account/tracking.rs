//! Notes on Secrets the day on which their token was last used (KEP-2799), beside the requests that use them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use k8w_kinds::core::service_account_token::LAST_USED;
use k8w_kinds::object::ensure;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::ApiServer;
use crate::object_store::{self, Change, Patched, Rules, Write};
use crate::status::Status;

/// Uses that wait to be noted. What finds no room is noted at the token's next use.
const MAX_WAITING_USES: usize = 256;

/// A token was used.
pub(super) struct Use {
    pub namespace: String,
    pub secret: String,
    /// As it is written in the label.
    pub day: String,
}

/// The way from authentication to the task that writes.
pub(super) struct Uses {
    sender: mpsc::Sender<Use>,
    receiver: Mutex<Option<mpsc::Receiver<Use>>>,
}

impl Uses {
    pub(super) fn new() -> Uses {
        let (sender, receiver) = mpsc::channel(MAX_WAITING_USES);
        Uses { sender, receiver: Mutex::new(Some(receiver)) }
    }

    /// Hands a use over; whether there was room. Never waits.
    pub(super) fn note(&self, used: Use) -> bool {
        self.sender.try_send(used).is_ok()
    }
}

/// Writes down uses for as long as the server is there.
pub fn start(server: &Arc<ApiServer>) {
    let Some(tokens) = &server.plugins.tokens else { return };
    let receiver = tokens.uses.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(receiver) = receiver {
        tokio::spawn(run(Arc::downgrade(server), receiver));
    }
}

async fn run(server: Weak<ApiServer>, mut uses: mpsc::Receiver<Use>) {
    while let Some(used) = uses.recv().await {
        let Some(server) = server.upgrade() else { return };
        if let Err(error) = label(&server, &used).await {
            tracing::warn!(secret = used.secret, %error, "the use of its token cannot be noted");
        }
    }
}

async fn label(server: &ApiServer, used: &Use) -> Result<(), Status> {
    let Some(resource) = server.resources.load().get("", "v1", "secrets").cloned() else { return Ok(()) };
    let mut write = Write::own(server, &resource, &used.namespace, &used.secret);
    let labelled = |old: &Value| {
        let mut object = old.clone();
        if let Some(labels) = ensure(&mut object, &["metadata", "labels"]) {
            labels.insert(LAST_USED.to_owned(), used.day.as_str().into());
        }
        Ok(Patched { object, tracked: false, once: false })
    };
    match object_store::update(&mut write, Change::Patch(&labelled), Rules::Update).await {
        Err(gone) if gone.reason == "NotFound" => Ok(()),
        done => done.map(|_| ()),
    }
}
