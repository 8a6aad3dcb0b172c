use serde_json::{Value as Json, json};
use toril_document::{Document, TableShape};

use super::resources::Drafts;
use super::scope::Scope;
use super::{HostInfo, Release, head, sample_facts};
use crate::resource::{KINDS, PINNED};

/// The JSON Schema of a recipe, as its reader tells it.
pub fn recipe_schema() -> Json {
    let host = HostInfo { name: "imagined".into(), user: "imagined".into() };
    let facts = sample_facts(Release::ALL[0]);
    let shape = Document::shape(|table| {
        drop(head::read(table));
        Drafts::default().read(table, &Scope::new(&facts, &host), &[], None, &facts);
    });
    let mut schema = shape.json_schema();
    let resource = &mut schema["properties"]["resource"]["items"];
    let kinds: Vec<Json> = KINDS.iter().map(|kind| json!({ "required": [kind.key] })).collect();
    resource["oneOf"] = json!(kinds);
    // A template may stand where a boolean is asked for.
    resource["properties"]["required"] = json!({ "type": ["boolean", "string"] });
    // What the recipe leaves out, its lock has.
    for (kind, key, _) in PINNED {
        if let Some(required) = resource["properties"][kind]["required"].as_array_mut() {
            required.retain(|name| name != key);
        }
    }
    schema
}

/// The keys of each kind, for the reference.
pub fn kind_shapes() -> Vec<(&'static str, TableShape)> {
    let shape = |read: fn(&mut toril_document::Table<'_>) -> _| {
        Document::shape(|table| drop::<Option<_>>(read(table)))
    };
    KINDS.iter().map(|kind| (kind.key, shape(kind.read))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_the_schema_with_its_keys() {
        let schema = recipe_schema();
        let resource = &schema["properties"]["resource"]["items"];
        for kind in KINDS {
            let keys = resource["properties"][kind.key]["properties"].as_object().unwrap();
            assert!(!keys.is_empty(), "{}", kind.key);
        }
        let file = &resource["properties"]["file"];
        assert_eq!(file["required"], json!(["path", "content"]));
        assert_eq!(schema["required"], json!(["description", "supports"]));
    }
}
