//! Accounts: what somebody is known by and signs in with, and how a guest becomes one. An identifier is claimed, then
//! proven, then exclusive; what was only claimed grants nothing and stops nobody.
//!
//! - `claim`: an identifier is claimed, a code and a link go out;
//! - `verify`: the claim is proven;
//! - `convert`: the one transition from guest to regular user, for every method and every door;
//! - `sign_in`: into an account that is there; `by_message`: by a code or a link;
//! - `password`: changed, or set anew by a link; `link`: the links of messages;
//! - `flow`: codes and links on their way to an address, whether or not an account has it;
//! - `manage`: what back ends do with all that; `by_grant`: what the token endpoint asks for.

mod by_grant;
mod by_message;
mod claim;
mod code;
mod convert;
mod flow;
mod identity;
mod link;
mod manage;
mod password;
mod sign_in;
mod verify;

pub(crate) use self::{claim::not_frozen, code::LINK_LIFE, verify::became};
pub use self::{
    claim::{ClaimRequest, ClaimView, ClaimWhat},
    identity::{AccountView, IdentifierView},
    link::{LinkDone, LinkPage, LinkUse},
    manage::{NewIdentifier, NewPassword, PasswordLink},
    password::{ChangePassword, ForgotPassword},
    sign_in::{SignIn, SignInAnswer, SignInBy},
    verify::{Verified, VerifyClaim},
};
