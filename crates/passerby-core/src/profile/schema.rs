//! A tenant's JSON Schema for profile data.

use std::{fmt, sync::Arc};

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::{EditError, Fault, read};

/// Bytes that one compiled `pattern` may take.
const PATTERN_SIZE: usize = 1024 * 1024;

/// Characters of the checker's own sentence that are passed on.
const LONGEST_DETAIL: usize = 300;

/// A compiled JSON Schema (draft 2020-12 unless it names another). Cheap to clone; compile it once per settings.
#[derive(Clone)]
pub struct Schema(Arc<Validator>);

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("draft", &self.0.draft()).finish_non_exhaustive()
    }
}

impl Schema {
    /// Compiles a schema document. A `$ref` may point into the document, never to another place: nothing is fetched.
    /// A `pattern` is of the linear kind, without look-around and back-references, so that no data can make it slow.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the document.
    pub fn compile(document: &Value) -> Result<Self, String> {
        let options = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE));
        options.build(document).map(|validator| Self(Arc::new(validator))).map_err(|e| e.to_string())
    }

    /// Checks a profile.
    ///
    /// # Errors
    /// [`Fault::Schema`]; `field` points into `data`, to the first value that breaks a rule.
    pub fn check(&self, data: &Value) -> Result<(), EditError> {
        self.check_at(data, "")
    }

    /// Checks the compact text of a profile, as [`parse_object`](super::parse_object) gives it; `base` is put before
    /// the pointers of errors.
    ///
    /// # Errors
    /// As [`Schema::check`], and faults of reading when `data` is not such a text.
    pub fn check_text(&self, data: &str, base: &str) -> Result<(), EditError> {
        self.check_at(&read::read(data.as_bytes(), base, read::DEEPEST)?, base)
    }

    pub(super) fn check_at(&self, data: &Value, base: &str) -> Result<(), EditError> {
        self.0.validate(data).map_err(|e| {
            let mut field = base.to_owned();
            for step in e.instance_path() {
                if !read::push_step(&mut field, &step.to_string()) {
                    break;
                }
            }
            // Masked: the sentence reaches logs, the data should not.
            let detail = e.masked().to_string().chars().take(LONGEST_DETAIL).collect::<String>();
            EditError::new(Fault::Schema, field, detail)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::profile::{Edit, Limits};

    fn schema() -> Schema {
        Schema::compile(&json!({
            "type": "object",
            "properties": {
                "age": {"type": "integer", "minimum": 0},
                "a/b": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}},
                "address": {"$ref": "#/$defs/address"},
            },
            "required": ["age"],
            "additionalProperties": false,
            "$defs": {"address": {"type": "object", "required": ["city"]}},
        }))
        .unwrap()
    }

    #[test]
    fn checks_and_points() {
        let schema = schema();
        assert_eq!(schema.check(&json!({"age": 1, "a/b": ["x"], "address": {"city": 1}})), Ok(()));
        for (data, field) in [
            (json!({"age": -1}), "/age"),
            (json!({"age": 1, "a/b": ["x", "SECRET"]}), "/a~1b/1"),
            (json!({"age": 1, "address": {}}), "/address"),
            (json!({"age": 1, "other": 1}), ""),
            (json!({}), ""),
        ] {
            let e = schema.check(&data).unwrap_err();
            assert_eq!((e.fault, e.field.as_str()), (Fault::Schema, field), "{data}");
            assert!(!e.detail.contains("SECRET"));
            let e = schema.check_text(&data.to_string(), "/data").unwrap_err();
            assert_eq!(e.field, format!("/data{field}"));
        }
        assert_eq!(format!("{:?}", schema.clone()), "Schema { draft: Draft202012, .. }");
    }

    #[test]
    fn edits_obey_it() {
        let (schema, limits) = (schema(), Limits::default());
        let edit = Edit::merge_patch(br#"{"age":-1}"#, &limits).unwrap();
        let e = edit.apply(r#"{"age":1}"#, &limits, Some(&schema)).unwrap_err();
        assert_eq!((e.fault, e.field.as_str()), (Fault::Schema, "/age"));
        let edit = Edit::shallow_merge(br#"{"age":"x"}"#, "/metadata", &limits).unwrap();
        assert_eq!(edit.apply("{}", &limits, Some(&schema)).unwrap_err().field, "/metadata/age");
        let edit = Edit::operations(br#"{"operations":[{"op":"increment","path":"/age","by":1}]}"#, &limits).unwrap();
        assert_eq!(&*edit.apply(r#"{"age":1}"#, &limits, Some(&schema)).unwrap(), r#"{"age":2}"#);
    }

    #[test]
    fn nothing_is_fetched_and_nothing_is_slow() {
        for document in [
            json!({"$ref": "https://schemas.example.com/person.json"}),
            json!({"properties": {"a": {"$ref": "file:///etc/hostname"}}}),
            json!({"$schema": "https://schemas.example.com/dialect"}),
            json!({"type": "nonsense"}),
            json!({"$ref": "#/$defs/missing"}),
            json!({"properties": {"a": {"pattern": "(a+)\\1"}}}),
            json!({"properties": {"a": {"pattern": "(?=a)b"}}}),
            json!({"properties": {"a": {"pattern": "(((a{1000}){1000}){1000})"}}}),
            json!(1),
        ] {
            let why = Schema::compile(&document).unwrap_err();
            assert!(!why.is_empty(), "{document}");
        }
    }

    #[test]
    fn a_schema_may_refer_to_itself() {
        let tree = json!({"type": "object", "additionalProperties": {"$ref": "#"}});
        let schema = Schema::compile(&tree).unwrap();
        assert_eq!(schema.check(&json!({"a": {"b": {}}})), Ok(()));
        assert_eq!(schema.check(&json!({"a": {"b": 1}})).unwrap_err().field, "/a/b");
    }
}
