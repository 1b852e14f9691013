//! The name a template gives its ReplicaSet.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// No vowels, and no digits that look like them: no bad words by chance (apimachinery's `rand.SafeEncodeString`).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short hash of the template; `collisions` makes it another one when the name is taken.
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut hash = 0x811c_9dc5_u32;
    let json = serde_json::to_vec(template).unwrap_or_default();
    for byte in json.into_iter().chain(collisions.into_iter().flat_map(i32::to_le_bytes)) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collision_gives_another_name_of_safe_letters() {
        let template = PodTemplateSpec::default();
        let (first, second) = (template_hash(&template, None), template_hash(&template, Some(1)));
        assert_ne!(first, second);
        assert_eq!(first, template_hash(&template, None));
        assert!(first.bytes().all(|b| ALPHABET.contains(&b)), "{first}");
    }
}
