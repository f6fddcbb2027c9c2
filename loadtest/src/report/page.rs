//! A run as one page that needs nothing but a browser.
//!
//! Responsible for a file that can be mailed, kept and read offline, on a phone and in the dark. Must never ask the
//! network for anything, which the page itself forbids, and must never put text of a record into it but by
//! [`Escaped`].

pub mod escape;

use std::fmt::{self, Write};

pub use escape::Escaped;

use crate::invariant::{Finding, Verdict, Violation};
use crate::record::Record;
use crate::report::Table;
use crate::report::plot::{Plot, plots};
use crate::report::section::sections;
use crate::report::summary::Summary;
use crate::report::terminal::{heading, verdict};

const STYLE: &str = include_str!("page/style.css");

/// The whole page.
#[must_use]
pub fn html(record: &Record, summary: &Summary) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut page, record, summary);
    page
}

fn write_page(page: &mut String, record: &Record, summary: &Summary) -> fmt::Result {
    let name = if summary.name.is_empty() { "Load test" } else { &summary.name };
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n",
        title = Escaped(name),
    )?;
    writeln!(page, "<p class=\"quiet\">{}, {}</p>", Escaped(heading(summary)), Escaped(started(summary)))?;
    let class = if summary.is_good() { "good" } else { "bad" };
    write!(page, "<p class=\"verdict {class}\">{}</p>\n</header>\n<main>\n", Escaped(verdict(summary)))?;
    for verdict in &summary.verdicts.list {
        if let Finding::Violated { count, violations } = &verdict.finding {
            write_violations(page, verdict, *count, violations)?;
        }
    }
    for plot in plots(record) {
        write_plot(page, &plot)?;
    }
    for section in sections(summary) {
        write!(page, "<section>\n<h2>{}</h2>\n", Escaped(section.title))?;
        if !section.note.is_empty() {
            writeln!(page, "<p class=\"quiet\">{}</p>", Escaped(&section.note))?;
        }
        write_table(page, section.title, &section.table)?;
        page.write_str("</section>\n")?;
    }
    write_invariants(page, &summary.verdicts.list)?;
    page.write_str("</main>\n</body>\n</html>\n")
}

/// Wall clock of the start, UTC.
fn started(summary: &Summary) -> String {
    let seconds = i64::try_from(summary.started_ms / 1000).unwrap_or(i64::MAX);
    let known = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    let text = known.and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok());
    text.map_or_else(|| "started at an unknown time".to_owned(), |at| format!("started {at}"))
}

fn write_violations(page: &mut String, verdict: &Verdict, count: u64, violations: &[Violation]) -> fmt::Result {
    let Verdict { invariant, meaning, .. } = verdict;
    write!(page, "<section>\n<h2 class=\"bad\">Violated {count} times: {}</h2>\n", Escaped(invariant))?;
    writeln!(page, "<p class=\"quiet\">{}</p>", Escaped(meaning))?;
    for violation in violations {
        writeln!(page, "<p>{}</p>\n<pre>{}</pre>", Escaped(&violation.what), Escaped(violation.evidence.join("\n")))?;
    }
    page.write_str("</section>\n")
}

fn write_plot(page: &mut String, plot: &Plot) -> fmt::Result {
    let Plot { title, about, .. } = plot;
    write!(page, "<section>\n<h2>{}</h2>\n<figure>\n", Escaped(title))?;
    match plot.svg.as_deref().and_then(|svg| svg.strip_prefix("<svg ")) {
        Some(svg) => {
            let label = format!("{title}: {about}, over the seconds of the run");
            write!(page, "<div class=\"wide\" tabindex=\"0\"><svg role=\"img\" aria-label=\"{}\" ", Escaped(label))?;
            write!(page, "{svg}</div>\n<ul class=\"legend\">")?;
            for (name, color, dashed) in &plot.legend {
                let class = if *dashed { " class=\"dashed\"" } else { "" };
                let (red, green, blue) = (color.0, color.1, color.2);
                let style = format!("border-color:rgb({red} {green} {blue})");
                write!(page, "<li><span{class} style=\"{style}\"></span>{}</li>", Escaped(name))?;
            }
            writeln!(page, "</ul>\n<figcaption>{}</figcaption>", Escaped(about))?;
        }
        None => writeln!(page, "<figcaption>Nothing of this was measured.</figcaption>")?,
    }
    page.write_str("</figure>\n</section>\n")
}

fn write_table(page: &mut String, title: &str, table: &Table) -> fmt::Result {
    writeln!(page, "<div class=\"wide\" tabindex=\"0\"><table aria-label=\"{}\">", Escaped(title))?;
    for (number, row) in table.rows().iter().enumerate() {
        let (open, close) = if number == 0 { ("<th scope=\"col\">", "</th>") } else { ("<td>", "</td>") };
        page.write_str("<tr>")?;
        for cell in row {
            write!(page, "{open}{}{close}", Escaped(cell))?;
        }
        page.write_str("</tr>\n")?;
    }
    page.write_str("</table></div>\n")
}

fn write_invariants(page: &mut String, verdicts: &[Verdict]) -> fmt::Result {
    if verdicts.is_empty() {
        return Ok(());
    }
    page.write_str("<section>\n<h2>Invariants</h2>\n<ul>\n")?;
    for Verdict { invariant, meaning, finding, left_out } in verdicts {
        write!(page, "<li><b>{}</b> ", Escaped(invariant))?;
        match finding {
            Finding::Held { checked } => write!(page, "<span class=\"good\">held</span>, {checked} checked")?,
            Finding::Violated { count, .. } => write!(page, "<span class=\"bad\">violated</span> {count} times")?,
            Finding::NotApplicable { why } => write!(page, "not judged: {}", Escaped(why))?,
        }
        write!(page, "<br><span class=\"quiet\">{}</span>", Escaped(meaning))?;
        for left_out in left_out {
            write!(page, "<br><span class=\"quiet\">left out: {}</span>", Escaped(left_out))?;
        }
        page.write_str("</li>\n")?;
    }
    page.write_str("</ul>\n</section>\n")
}

#[cfg(test)]
mod tests;
