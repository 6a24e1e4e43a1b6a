//! Figures of all rounds, as tables.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// All figures and all faults.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    tables: Vec<Table>,
    /// Why a figure, and with it the run, is void.
    faults: Vec<String>,
}

#[derive(Debug)]
struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<Vec<f64>>)>,
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().saturating_sub(1) / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

fn number(x: f64) -> String {
    if x.abs() >= 100.0 {
        let digits = format!("{:.0}", x.abs());
        let mut out = String::new();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                out.push(',');
            }
            out.push(digit);
        }
        if x < 0.0 { format!("-{out}") } else { out }
    } else if x.fract() == 0.0 {
        format!("{x:.0}")
    } else if x.abs() >= 10.0 {
        format!("{x:.1}")
    } else {
        format!("{x:.2}")
    }
}

fn cell(values: &[f64]) -> String {
    let Some(middle) = median(values) else { return "–".into() };
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let (middle, low, high) = (number(middle), number(low), number(high));
    if low == high { middle } else { format!("{middle} ({low}–{high})") }
}

impl Sheet {
    /// Adds one round's figure.
    pub(crate) fn add(&mut self, title: &str, row: &str, column: &str, value: f64) {
        let at = self.tables.iter().position(|t| t.title == title).unwrap_or_else(|| {
            self.tables.push(Table { title: title.into(), columns: Vec::new(), rows: Vec::new() });
            self.tables.len() - 1
        });
        let table = &mut self.tables[at];
        let column = table.columns.iter().position(|c| c == column).unwrap_or_else(|| {
            table.columns.push(column.into());
            table.columns.len() - 1
        });
        let row = table.rows.iter().position(|(name, _)| name == row).unwrap_or_else(|| {
            table.rows.push((row.into(), Vec::new()));
            table.rows.len() - 1
        });
        let cells = &mut table.rows[row].1;
        if cells.len() <= column {
            cells.resize(column + 1, Vec::new());
        }
        cells[column].push(value);
    }

    /// The figure that was added last.
    pub(crate) fn last(&self, title: &str, row: &str, column: &str) -> Option<f64> {
        let table = self.tables.iter().find(|t| t.title == title)?;
        let column = table.columns.iter().position(|c| c == column)?;
        let (_, cells) = table.rows.iter().find(|(name, _)| name == row)?;
        cells.get(column)?.last().copied()
    }

    /// Notes, and says at once, why the run is void.
    pub(crate) fn fault(&mut self, text: String) {
        eprintln!("VOID: {text}");
        self.faults.push(text);
    }

    pub(crate) fn is_void(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Markdown: median and range of every figure.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        for table in &self.tables {
            let (columns, rule) = (table.columns.join(" | "), " ---: |".repeat(table.columns.len()));
            let _ = write!(out, "\n### {}\n\n| | {columns} |\n| --- |{rule}\n", table.title);
            for (name, cells) in &table.rows {
                let cells = (0..table.columns.len()).map(|i| cell(cells.get(i).map_or(&[], Vec::as_slice)));
                let _ = writeln!(out, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
            }
        }
        for fault in &self.faults {
            let _ = write!(out, "\n**VOID**: {fault}\n");
        }
        out
    }

    /// Every figure of every round.
    pub(crate) fn json(&self) -> Value {
        let figures = self.tables.iter().flat_map(|table| {
            table.rows.iter().flat_map(move |(row, cells)| {
                table.columns.iter().zip(cells).filter(|(_, values)| !values.is_empty()).map(move |(column, values)| {
                    json!({"table": table.title, "row": row, "column": column, "median": median(values), "rounds": values})
                })
            })
        });
        json!({"figures": figures.collect::<Vec<_>>(), "void": self.faults})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table() {
        let mut sheet = Sheet::default();
        for value in [3.0, 1.0, 2.5] {
            sheet.add("T", "a", "x", value);
        }
        sheet.add("T", "b", "y", 12_345.6);
        assert_eq!(
            sheet.markdown(),
            "\n### T\n\n| | x | y |\n| --- | ---: | ---: |\n| a | 2.50 (1–3) | – |\n| b | – | 12,346 |\n"
        );
        assert_eq!(sheet.last("T", "a", "x"), Some(2.5));
        assert_eq!(sheet.last("T", "a", "y"), None);
        assert_eq!(sheet.json()["figures"][0]["rounds"], json!([3.0, 1.0, 2.5]));
        assert!(!sheet.is_void());
        sheet.fault("why".into());
        assert!(sheet.is_void() && sheet.markdown().contains("why"));
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, 2.0]), Some(1.5));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
    }
}
