//! How a page looks, in light and in dark, and the few pieces of HTML that pages are made of. No
//! script, and nothing from elsewhere: a page can be mailed, archived and opened in ten years.

use std::fmt::{self, Write as _};

const STYLE: &str = "\
:root{color-scheme:light dark;--text:#1f2933;--quiet:#55657a;--line:#d5dbe1;--back:#ffffff;\
--warn:#8a4b00}\
@media(prefers-color-scheme:dark){:root{--text:#e4e9ee;--quiet:#9aa9b8;--line:#38424d;\
--back:#14191f;--warn:#f0b15e}}\
body{font:15px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;color:var(--text);\
background:var(--back);max-width:960px;margin:0 auto;padding:24px}\
h1{font-size:24px;margin:0 0 8px}h2{font-size:18px;margin:32px 0 8px}p{margin:6px 0}\
.quiet{color:var(--quiet)}.warn{color:var(--warn);font-weight:600}\
table{border-collapse:collapse;margin:8px 0;font-variant-numeric:tabular-nums}\
th,td{padding:3px 12px 3px 0;text-align:right;border-bottom:1px solid var(--line)}\
th{font-weight:600;color:var(--quiet)}th:first-child,td:first-child{text-align:left}\
.facts th,.facts td,.left td,.left th{text-align:left}.left td:last-child{text-align:right}\
figure{margin:16px 0}svg{width:100%;height:auto;display:block}.scroll{overflow-x:auto}";

/// Text as it may stand in an element or an attribute.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                c if c.is_control() => f.write_str("\u{fffd}")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A page under way.
pub(super) struct Page {
    text: String,
}

impl Page {
    pub(super) fn new(title: &str) -> Page {
        let title = Escaped(title);
        let text = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        );
        Page { text }
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.add(format_args!("<h2>{}</h2>\n", Escaped(text)));
    }

    pub(super) fn paragraph(&mut self, class: &str, text: &str) {
        self.add(format_args!("<p class=\"{class}\">{}</p>\n", Escaped(text)));
    }

    /// Names and what is said of each.
    pub(super) fn facts(&mut self, facts: &[(&str, String)]) {
        self.text.push_str("<table class=\"facts\">\n");
        for (name, fact) in facts {
            self.add(format_args!(
                "<tr><th>{}</th><td>{}</td></tr>\n",
                Escaped(name),
                Escaped(fact)
            ));
        }
        self.text.push_str("</table>\n");
    }

    /// A table; `class` is empty, or `left` for one whose columns but the last hold words.
    pub(super) fn table<S: AsRef<str>>(
        &mut self,
        class: &str,
        heads: &[&str],
        rows: impl IntoIterator<Item = impl IntoIterator<Item = S>>,
    ) {
        self.add(format_args!("<div class=\"scroll\"><table class=\"{class}\">\n<tr>"));
        heads.iter().for_each(|head| self.add(format_args!("<th>{}</th>", Escaped(head))));
        self.text.push_str("</tr>\n");
        for row in rows {
            self.text.push_str("<tr>");
            for cell in row {
                self.add(format_args!("<td>{}</td>", Escaped(cell.as_ref())));
            }
            self.text.push_str("</tr>\n");
        }
        self.text.push_str("</table></div>\n");
    }

    /// A picture, which is SVG text already.
    pub(super) fn figure(&mut self, svg: &str) {
        self.add(format_args!("<figure>\n{svg}</figure>\n"));
    }

    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</body>\n</html>\n");
        self.text
    }

    fn add(&mut self, text: fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("writing to a String cannot fail");
    }
}

#[cfg(test)]
pub(super) mod tests {
    /// Fails unless `page` is well-formed, refers to nothing outside itself and runs nothing.
    pub(crate) fn check(page: &str) {
        let mut open = Vec::new();
        let mut rest = page.strip_prefix("<!DOCTYPE html>\n").expect("a page");
        while let Some((before, after)) = rest.split_once('<') {
            assert!(!before.contains('>') || open.last() == Some(&"style"), "{before}");
            let is_sound = |entity: &str| {
                ["lt;", "gt;", "amp;", "quot;", "#39;"].iter().any(|it| entity.starts_with(it))
            };
            assert!(before.split('&').skip(1).all(is_sound), "{before}");
            let (tag, after) = after.split_once('>').expect("a tag ends");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split([' ', '\n']).next().unwrap()),
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            rest = after;
        }
        assert_eq!((open, rest), (vec![], "\n"));
        for outside in ["src=", "href=", "url(", "@import", "<script", "onload", "NaN", "inf "] {
            assert!(!page.contains(outside), "{outside}");
        }
        // The only addresses are the names of the language of pictures.
        assert_eq!(
            page.matches("//").count(),
            page.matches("\"http://www.w3.org/2000/svg\"").count()
        );
    }
}
