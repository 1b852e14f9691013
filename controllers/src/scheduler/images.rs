//! Which nodes hold which images.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

/// Image name -> node name -> the image's size in bytes.
#[derive(Default)]
pub struct Images(HashMap<String, HashMap<Arc<str>, i64>>);

impl Images {
    /// The nodes that hold the image, with its size in bytes.
    pub fn holders(&self, image: &str) -> Option<&HashMap<Arc<str>, i64>> {
        self.0.get(image).or_else(|| self.0.get(&normalised(image)))
    }

    /// A node's status was replaced, or the node is new or gone.
    pub fn replace(&mut self, before: Option<&Node>, after: Option<&Node>) {
        let images = |node: Option<&'_ Node>| node.and_then(|n| n.status.as_ref()?.images.clone()).unwrap_or_default();
        let (old, new) = (images(before), images(after));
        if old == new {
            return;
        }
        let name: Arc<str> = before.or(after).and_then(|n| n.metadata.name.as_deref()).unwrap_or_default().into();
        for image in old.iter().flat_map(|image| image.names.iter().flatten()) {
            if let Some(holders) = self.0.get_mut(image) {
                holders.remove(&name);
                if holders.is_empty() {
                    self.0.remove(image);
                }
            }
        }
        for image in &new {
            for tag in image.names.iter().flatten() {
                let size = image.size_bytes.unwrap_or(0);
                self.0.entry(tag.clone()).or_default().insert(name.clone(), size);
            }
        }
    }
}

/// With the tag that an image without one has.
fn normalised(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}
