//! Receipts: what a merge did, signed by the tenant, so that anyone can hold the application to it.

use serde::Serialize;

use crate::{Code, Error, Timestamp, passerby::Passerby, settings::Tenant};

use super::transfer::TransferState;

/// `typ` of a receipt: it passes for no other token.
const RECEIPT_TYP: &str = "passerby-receipt+jwt";

/// What a receipt says.
#[derive(Serialize)]
pub(super) struct Receipt<'a> {
    pub(super) iss: &'a str,
    /// The account's id as shown.
    pub(super) sub: &'a str,
    /// The guest's.
    pub(super) guest_id: &'a str,
    /// The transfer's id.
    pub(super) jti: &'a str,
    /// Seconds.
    pub(super) iat: i64,
    /// The version of the policies.
    pub(super) policy: &'a str,
    /// How the transfer stood.
    pub(super) state: TransferState,
    /// The version of the account's data with the guest's in it.
    pub(super) data_version: i64,
}

impl Passerby {
    /// Signs a receipt with the key that signs the tenant's tokens now.
    pub(super) fn sign_receipt(
        &self,
        tenant: &Tenant,
        receipt: &Receipt<'_>,
        now: Timestamp,
    ) -> Result<Box<str>, Error> {
        let fault = || Error::new(Code::Internal, "A receipt could not be signed.");
        let key = self.signing_key(tenant, now)?;
        let text = serde_json::to_vec(receipt).map_err(|_| fault())?;
        let mut out = Vec::with_capacity(1024);
        key.signing.sign_into(&key.signing.header(RECEIPT_TYP), &text, &mut out).map_err(|_| fault())?;
        String::from_utf8(out).map(Into::into).map_err(|_| fault())
    }
}
