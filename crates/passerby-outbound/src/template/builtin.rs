//! The templates that come with the server.

use super::{Kind, Template};

/// One kind: its subject and the names of its files.
macro_rules! mail {
    ($subject:literal, $name:literal) => {
        Template {
            subject: $subject.to_owned(),
            text: include_str!(concat!("builtin/", $name, ".txt")).to_owned(),
            html: Some(
                concat!(
                    include_str!("builtin/head.html"),
                    include_str!(concat!("builtin/", $name, ".html")),
                    include_str!("builtin/foot.html")
                )
                .to_owned(),
            ),
        }
    };
}

pub(super) fn template(kind: Kind) -> Template {
    match kind {
        Kind::CodeByEmail => mail!("{{ code }} is your code for {{ app_name }}", "code_by_email"),
        Kind::LinkByEmail => mail!("Your link for {{ app_name }}", "link_by_email"),
        Kind::CodeBySms => {
            Template { subject: String::new(), text: include_str!("builtin/code_by_sms.txt").to_owned(), html: None }
        }
        Kind::SetPassword => mail!("Set your password for {{ app_name }}", "set_password"),
        Kind::PasswordChanged => mail!("Your password for {{ app_name }} was changed", "password_changed"),
        Kind::IdentifierChanged => mail!(
            "{% if change == \"added\" %}A new way to sign in was added{% else %}A way to sign in was removed{% endif %}: {{ app_name }}",
            "identifier_changed"
        ),
        Kind::AddressTried => mail!("Somebody entered your address at {{ app_name }}", "address_tried"),
        Kind::CameBack => mail!("Your things at {{ app_name }} were opened on a device", "came_back"),
    }
}
