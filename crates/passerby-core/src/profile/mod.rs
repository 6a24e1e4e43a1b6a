//! stub, being replaced
#![allow(missing_docs)]
#[derive(Debug, Clone, Default)] pub struct Limits { pub max_bytes: usize, pub max_depth: usize, pub max_operations: usize, pub max_list: usize }
#[derive(Debug, Clone, Copy, PartialEq, Eq)] pub enum Fault { Malformed, DuplicateMember, NotAnObject, InvalidOperation, InvalidPath, NumberOutOfRange, NulCharacter, ReservedKey, TooDeep, TooLarge, TooManyOperations, TypeMismatch, TestFailed, PathNotFound, Schema }
impl Fault { pub fn code(self) -> &'static str { "invalid_data" } }
#[derive(Debug, Clone)] pub struct EditError { pub fault: Fault, pub field: String, pub detail: String }
#[derive(Debug, Clone)] pub struct Edit;
#[derive(Debug, Clone)] pub struct Schema;
impl Edit { pub fn apply(&self, _c: &str, _l: &Limits, _s: Option<&Schema>) -> Result<Box<str>, EditError> { Ok("{}".into()) } }
pub fn parse_object(_t: &[u8], _b: &str, _l: &Limits) -> Result<Box<str>, EditError> { Ok("{}".into()) }
impl Edit { pub fn merge_patch(_b: &[u8], _l: &Limits) -> Result<Self, EditError> { Ok(Self) } pub fn json_patch(_b: &[u8], _l: &Limits) -> Result<Self, EditError> { Ok(Self) } pub fn operations(_b: &[u8], _l: &Limits) -> Result<Self, EditError> { Ok(Self) } pub fn shallow_merge(_b: &[u8], _base: &str, _l: &Limits) -> Result<Self, EditError> { Ok(Self) } }
impl Schema { pub fn check(&self, _v: &serde_json::Value) -> Result<(), EditError> { Ok(()) } }
