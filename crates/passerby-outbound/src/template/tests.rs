//! What templates may say, and what hostile values may not do.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn with(kind: Kind, change: impl FnOnce(&mut Template)) -> Template {
    let mut template = Template::builtin(kind);
    change(&mut template);
    template
}

fn refused(kind: Kind, change: impl FnOnce(&mut Template)) -> TemplateFault {
    check(kind, &with(kind, change)).expect_err("it was taken")
}

/// The fault of a text of [`Kind::SetPassword`], which has every kind of variable.
fn in_text(text: &str) -> TemplateFault {
    refused(Kind::SetPassword, |template| template.text = format!("{{{{ link }}}}\n{text}"))
}

#[test]
fn the_templates_that_come_along_are_good() {
    for kind in Kind::ALL {
        let rendered = preview(kind, &Template::builtin(kind)).unwrap_or_else(|e| panic!("{}: {e}", kind.name()));
        assert_eq!(rendered.html.is_some(), kind.channel() == Channel::Email);
        assert_eq!(rendered.subject.is_empty(), kind.channel() == Channel::Sms);
        assert!(rendered.text.contains("Shop") && !rendered.text.contains("{{"), "{}", rendered.text);
        assert_eq!(Kind::by_name(kind.name()), Some(kind));
    }
    assert_eq!(Kind::by_name("other"), None);
    let code = preview(Kind::CodeByEmail, &Template::builtin(Kind::CodeByEmail)).unwrap();
    assert_eq!(code.subject, "482913 is your code for Shop");
    assert!(code.text.contains("https://shop.example/link#c=Zm9vYmFy\n"), "{}", code.text);
    let sms = preview(Kind::CodeBySms, &Template::builtin(Kind::CodeBySms)).unwrap();
    assert_eq!(sms.text, "482913 is your code for Shop. It works for 10 minutes. Do not give it to anybody.");
}

#[test]
fn operators_may_write_what_they_need() {
    let text = "{{ link }} {{ state.name|default(\"friend\")|upper }} {{ to|urlencode }} {{ valid_minutes }}\n\
        {% if state.plan is defined and state.plan.name is defined %}{{ state.plan.name }}{% else %}none{% endif %}\n\
        {% for item in state.items|default([]) %}{{ loop.index }}. {{ item }}\n{% endfor %}\
        {# a note #}{% if valid_minutes > 60 and not app_url %}long{% endif %}{{ \"x\" if app_url else \"y\" }}{% raw %}{{ }}{% endraw %}";
    let template = with(Kind::SetPassword, |template| template.text = text.to_owned());
    let rendered = preview(Kind::SetPassword, &template).unwrap_or_else(|e| panic!("{e}"));
    let told = "https://shop.example/link#c=Zm9vYmFy ADA ada%40example.com 1440\nbasic\n1. tea\n2. bread\nx{{ }}";
    assert_eq!(rendered.text, told);
}

#[test]
fn what_is_broken_is_refused_with_its_line() {
    for (text, line, said) in [
        ("\n{{ code", 3, "unexpected end"),
        ("{% if code %}", 2, ""),
        ("{{ nobody }}", 2, "no variable nobody"),
        ("a\nb\n{{ code }}", 4, "no variable code"),
        ("{% if 1 == 2 %}{{ secret_key }}{% endif %}", 2, "no variable secret_key"),
        ("{{ state.name }}", 2, "may be missing"),
        ("{{ state }}", 2, "an object as a whole"),
        ("{{ app_url }}", 2, "may be missing"),
        ("{{ link.host }}", 2, "a member of link"),
        ("{{ app_name|safe }}", 2, "the filter safe"),
        ("{{ app_name|replace(\"a\", \"b\") }}", 2, "the filter replace"),
        ("{{ app_name ~ app_name }}", 2, "joining texts"),
        ("{{ app_name * 1000000 }}", 2, "arithmetic"),
        ("{{ range(1000000) }}", 2, "a call"),
        ("{{ state.items() }}", 2, "a call"),
        ("{{ app_name[0:2] }}", 2, "cannot be used here"),
        ("{{ \"x\" if valid_minutes > 5 }}", 2, "without else"),
        ("{{ {\"a\": 1}.a }}", 2, "cannot be used here"),
        ("{% set a = 1 %}", 2, "{% set %}"),
        ("{% set a %}x{% endset %}", 2, "{% set %}"),
        ("{% with a = 1 %}{% endwith %}", 2, "{% with %}"),
        ("{% filter upper %}x{% endfilter %}", 2, "{% filter %}"),
        ("{% autoescape false %}x{% endautoescape %}", 2, "{% autoescape %}"),
        ("{% include \"x\" %}", 2, ""),
        ("{% macro m() %}x{% endmacro %}", 2, ""),
        ("{% for link in state.x|default([]) %}{% endfor %}", 2, "the name link"),
        ("{% for a, b in state.x|default([]) %}{% endfor %}", 2, "more than one name"),
        ("{% for a in state.x|default([]) recursive %}{% endfor %}", 2, "recursive"),
        ("{% for a in state.x|default([]) %}{% endfor %}{{ a }}", 2, "no variable a"),
        ("{{ app_name is divisibleby(2) }}", 2, "the test divisibleby"),
        ("\u{7}", 2, "control character"),
    ] {
        let fault = in_text(text);
        assert_eq!((fault.part, fault.line), (Part::Text, line), "{text}: {fault}");
        assert!(fault.to_string().contains(said), "{text}: {fault}");
    }
}

#[test]
fn subjects_are_one_line_and_not_empty() {
    for (subject, reason) in [
        ("", Reason::Empty),
        (" \t", Reason::Empty),
        ("{% if false %}x{% endif %}", Reason::Empty),
        ("a\nb", Reason::LineBreak),
        ("a\rBcc: eve@example.com", Reason::LineBreak),
        ("a\u{2028}b", Reason::LineBreak),
        ("a{{ \"\\r\\nBcc: eve@example.com\" }}", Reason::LineBreak),
        ("a\u{0}", Reason::Control),
        ("{{ code }}", Reason::UnknownVariable("code".into())),
    ] {
        let fault = refused(Kind::PasswordChanged, |template| template.subject = subject.to_owned());
        assert_eq!((fault.part, fault.reason), (Part::Subject, reason), "{subject:?}");
    }
    let long = with(Kind::PasswordChanged, |template| template.subject = "ü".repeat(400));
    assert_eq!(preview(Kind::PasswordChanged, &long).unwrap().subject.chars().count(), LONGEST_SUBJECT);
}

#[test]
fn a_message_says_what_it_is_sent_for() {
    let missing = |kind, change: fn(&mut Template)| refused(kind, change).reason;
    assert_eq!(missing(Kind::CodeByEmail, |t| t.text = "hello".to_owned()), Reason::Missing("code"));
    assert_eq!(missing(Kind::CodeByEmail, |t| t.html = Some("hello".to_owned())), Reason::Missing("code"));
    assert_eq!(missing(Kind::LinkByEmail, |t| t.text = "hello".to_owned()), Reason::Missing("link"));
    assert_eq!(missing(Kind::CodeBySms, |t| t.text = "hello".to_owned()), Reason::Missing("code"));
    let sometimes = "{% if app_url %}{{ code }}{% endif %}";
    assert_eq!(refused(Kind::CodeBySms, |t| t.text = sometimes.to_owned()).reason, Reason::Missing("code"));
    for unsaid in
        ["{% if code %}hello{% endif %}", "{{ code|length }}", "{% for a in [1] %}x{% else %}{{ code }}{% endfor %}"]
    {
        let fault = refused(Kind::CodeBySms, |t| t.text = unsaid.to_owned());
        assert_eq!(fault.reason, Reason::Missing("code"), "{unsaid}");
    }
    let always = "{% if app_url %}{{ code }}!{% else %}{{ code }}{% endif %}";
    assert_eq!(check(Kind::CodeBySms, &with(Kind::CodeBySms, |t| t.text = always.to_owned())), Ok(()));
    assert_eq!(missing(Kind::CodeBySms, |t| t.subject = "x".to_owned()), Reason::NotInSms);
    assert_eq!(missing(Kind::CodeBySms, |t| t.html = Some("{{ code }}".to_owned())), Reason::NotInSms);
    assert_eq!(missing(Kind::CameBack, |t| t.text = "\n ".to_owned()), Reason::Empty);
}

#[test]
fn size_steps_and_output_are_bounded() {
    let reason = |text: String| refused(Kind::SetPassword, |template| template.text = text).reason;
    assert_eq!(reason("x".repeat(LONGEST_SOURCE + 1)), Reason::TooLong);
    let lists = format!("[{}]", "1,".repeat(200));
    let steps = format!(
        "{{{{ link }}}}{{% for a in {lists} %}}{{% for b in {lists} %}}{{{{ a }}}}{{% endfor %}}{{% endfor %}}"
    );
    assert_eq!(reason(steps), Reason::OutOfFuel);
    let output = format!("{{{{ link }}}}{{% for a in {lists} %}}{}{{% endfor %}}", "x".repeat(2000));
    assert_eq!(reason(output), Reason::LongOutput);
    let long = refused(Kind::CodeBySms, |template| template.text.push_str(&"x".repeat(LONGEST_SHORT_MESSAGE)));
    assert_eq!(long.reason, Reason::LongOutput);
    let deep = format!("{{{{ {}link{} }}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(matches!(reason(deep), Reason::Syntax(_)));
    let nested = format!("{}{}", "{% if link %}".repeat(2000), "{% endif %}".repeat(2000));
    assert!(matches!(reason(nested), Reason::Syntax(_)));
}

#[test]
fn html_lets_no_value_out() {
    for (html, line, said) in [
        ("<p title={{ to }}>", 1, "quotes"),
        ("<p>\n<a href=\"{{ app_name }}\">", 2, "must begin with a link"),
        ("<a href=\"javascript:{{ to }}\">", 1, "must begin with a link"),
        ("<a href=\"{{ link|upper }}\">", 1, "must begin with a link"),
        ("<p>\n\n<script>x</script>", 3, "<script>"),
        ("<p {{ to }}>", 1, "no variable may stand in a tag"),
        ("<p {% if app_url %}title=\"{% endif %}{{ to }}\">", 1, "must end where it began"),
        ("{% for x in state.x|default([]) %}<p title=\"{% endfor %}", 1, "must end where it began"),
        ("<p>\n<!-- {{ to }} -->", 2, "comment"),
        ("<p>{{ link }}<b", 1, "not ended"),
    ] {
        let fault = refused(Kind::SetPassword, |template| template.html = Some(html.to_owned()));
        assert_eq!((fault.part, fault.line), (Part::Html, line), "{html}: {fault}");
        assert!(fault.to_string().contains(said), "{html}: {fault}");
    }
    let html = "<a href=\"{% if app_url %}{{ app_url }}{% else %}https://shop.example/{% endif %}\" title='{{ to }}'>x</a>\
        <a {% if app_url %}title=\"{{ to }}\" {% endif %}href=\"{{ link }}&amp;n={{ state.name|default(\"\")|urlencode }}\">y</a>";
    assert_eq!(check(Kind::SetPassword, &with(Kind::SetPassword, |t| t.html = Some(html.to_owned()))), Ok(()));
}

#[test]
fn html_is_escaped_and_text_is_not() {
    let letter = Letter { app_name: "<b>\"Tea\" & 'Bread'</b>".to_owned(), ..Letter::sample(Kind::PasswordChanged) };
    let (rendered, fault) = render(&Template::builtin(Kind::PasswordChanged), &letter).unwrap();
    assert_eq!(fault, None);
    assert!(rendered.text.contains("at <b>\"Tea\" & 'Bread'</b> was changed"), "{}", rendered.text);
    let html = rendered.html.unwrap();
    assert!(html.contains("&lt;b&gt;&quot;Tea&quot; &amp; &#x27;Bread&#x27;&lt;") && !html.contains("<b>"), "{html}");
}

#[test]
fn where_a_template_fails_on_what_an_application_gave_the_built_in_one_is_sent() {
    let text = "{{ link }} {% if state.plan is defined %}{{ state.plan.name }}{% endif %}";
    let template = with(Kind::SetPassword, |template| template.text = text.to_owned());
    assert_eq!(check(Kind::SetPassword, &template), Ok(()));
    let link = Link::new("https://shop.example/s").unwrap();
    let state = json!({"plan": 7}).as_object().cloned().unwrap();
    let about = About::SetPassword { link, valid_for: Duration::from_hours(1), state };
    let letter = Letter { about, ..Letter::sample(Kind::SetPassword) };
    let (rendered, fault) = render(&template, &letter).unwrap();
    assert!(rendered.text.contains("https://shop.example/s") && rendered.text.contains("1 hour"));
    assert!(matches!(fault.unwrap().reason, Reason::Values(_)));
}

#[test]
fn the_table_of_variables_is_whole() {
    let page = variables_as_markdown();
    for kind in Kind::ALL {
        assert!(page.contains(&format!("### `{}`\n", kind.name())));
        for variable in kind.variables() {
            assert!(page.contains(&format!("| `{}` | ", variable.name)));
        }
    }
    assert!(page.contains("| `device` | text, may be missing | "));
}

#[test]
fn nothing_of_a_message_is_shown_by_debug() {
    let letter = Letter::sample(Kind::CodeByEmail);
    let rendered = preview(Kind::CodeByEmail, &Template::builtin(Kind::CodeByEmail)).unwrap();
    let About::CodeByEmail { link, .. } = &letter.about else { unreachable!() };
    let shown = format!("{letter:?} {rendered:?} {link:?}");
    assert!(!shown.contains("482913") && !shown.contains("Zm9vYmFy"), "{shown}");
}

/// Texts as an attacker would write them.
fn hostile() -> impl Strategy<Value = String> {
    let bits = prop::sample::select(vec![
        "<",
        ">",
        "\"",
        "'",
        "&",
        "`",
        "=",
        "/",
        "\r\n",
        "\n",
        "\r",
        "\0",
        "\u{2028}",
        "\u{202e}",
        "<script>",
        "</p>",
        "-->",
        "{{ link }}",
        "{% if %}",
        "&lt;",
        "javascript:",
        "onerror=1 ",
        "Bcc: eve@example.com",
        "x",
        "ü",
        " ",
        "\t",
        "\u{85}",
    ]);
    prop_oneof![prop::collection::vec(bits, 0..12).prop_map(|bits| bits.concat()), any::<String>()]
}

fn count(text: &str, of: char) -> usize {
    text.matches(of).count()
}

proptest! {
    /// Whatever the values are, the HTML has the tags and quotes of the template and no others, the subject is one line,
    /// and the text has the lines of the template.
    #[test]
    fn no_value_breaks_out(name in hostile(), to in hostile(), one in hostile(), two in hostile(), device in hostile()) {
        let seen = || Seen { at: one.clone(), device: Some(device.clone()) };
        let link = || Link::new("https://shop.example/l").unwrap();
        let valid_for = Duration::from_mins(10);
        let state = json!({ "name": two, one.clone(): [device.clone()] }).as_object().cloned().unwrap();
        for about in [
            About::CodeByEmail { code: one.clone(), link: Some(link()), valid_for, purpose: Purpose::Verify },
            About::SetPassword { link: link(), valid_for, state },
            About::PasswordChanged { seen: seen() },
            About::IdentifierChanged {
                identifier: one.clone(), identifier_kind: two.clone(), change: Change::Removed, seen: seen(),
            },
            About::AddressTried { seen: seen() },
            About::CameBack { by: ReturnBy::HandOff, seen: seen() },
        ] {
            let mut template = Template::builtin(Letter { about: about.clone(), ..Letter::sample(Kind::CodeByEmail) }.kind());
            if let About::SetPassword { .. } = about {
                let more = "<p title='{{ state.name|default(\"\") }}'>{{ state.name|default(\"\")|upper }}</p>";
                template.html = Some(format!("{}{more}", template.html.unwrap()));
            }
            let letter = Letter { app_name: name.clone(), app_url: Some(link()), to: to.clone(), about };
            let mut tame = letter.clone();
            tame.app_name = "n".to_owned();
            tame.to = "t".to_owned();
            match &mut tame.about {
                About::CodeByEmail { code, .. } => *code = "c".to_owned(),
                About::SetPassword { state, .. } => state.clear(),
                About::IdentifierChanged { identifier, identifier_kind, seen, .. } => {
                    *identifier = "i".to_owned();
                    *identifier_kind = "k".to_owned();
                    *seen = Seen { at: "a".to_owned(), device: Some("d".to_owned()) };
                }
                About::PasswordChanged { seen } | About::AddressTried { seen } | About::CameBack { seen, .. } => {
                    *seen = Seen { at: "a".to_owned(), device: Some("d".to_owned()) };
                }
                _ => {}
            }
            let (rendered, fault) = render(&template, &letter).unwrap();
            let (wanted, _) = render(&template, &tame).unwrap();
            prop_assert_eq!(fault, None);
            let odd = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}');
            prop_assert!(!rendered.subject.contains(odd));
            let (html, wanted_html) = (rendered.html.unwrap(), wanted.html.unwrap());
            for c in ['"', '\''] {
                prop_assert_eq!(count(&html, c), count(&wanted_html, c), "{}", html);
            }
            // a device of marks alone is an empty text, and `{% if device %}` leaves its line out
            let lines = |text: &str| text.lines().filter(|line| !line.starts_with("Device:")).count();
            prop_assert_eq!(lines(&rendered.text), lines(&wanted.text), "{}", rendered.text);
            let breaks = |html: &str| count(html, '<') - html.matches("<br>Device:").count();
            prop_assert_eq!(breaks(&html), breaks(&wanted_html), "{}", html);
        }
    }
}
