//! QR codes as SVG.

use qrcode::{EcLevel, QrCode, render::svg};

/// A picture of the text, black on white with its quiet zone; `None` for a text that no code can hold.
pub(crate) fn svg(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    Some(code.render::<svg::Color<'_>>().min_dimensions(192, 192).build())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_picture_of_what_fits() {
        let picture = super::svg("https://id.example/ui/hand-off#code=ABCD-EFGH&client_id=demo").unwrap();
        assert!(picture.contains("<svg") && picture.trim_end().ends_with("</svg>"));
        assert!(super::svg(&"x".repeat(3000)).is_none());
    }
}
