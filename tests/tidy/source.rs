//! Reads Rust source well enough for the rules: comments and literals blanked out, tokens with
//! their lines, which lines are test code, which modules a file declares, which paths it names.

/// A file of the repository: its path from the root, with `/`, and its text.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A word or a punctuation mark of the code, and its line from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A module declaration `mod name;`, below these inline modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) inside: Vec<String>,
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) is_test: bool,
}

/// A path as named in code, groups expanded: `crate::{a::b, c}` gives two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// How many inline modules stand around it.
    pub(crate) depth: usize,
}

/// What the rules need to know of one Rust file.
pub(crate) struct Code {
    pub(crate) tokens: Vec<Token>,
    /// The text without comments and without what stands in literals.
    pub(crate) blanked: String,
    /// Whether line `n` (from 1, at index `n`) is test code.
    pub(crate) test_lines: Vec<bool>,
    pub(crate) declared: Vec<Declared>,
    pub(crate) named: Vec<Named>,
}

impl Code {
    pub(crate) fn new(text: &str) -> Code {
        let blanked = blank(text);
        let tokens = tokens(&blanked);
        let mut test_lines = vec![false; blanked.lines().count() + 2];
        mark_tests(&tokens, &mut test_lines);
        let mut code = Code { tokens, blanked, test_lines, declared: vec![], named: vec![] };
        code.read();
        code
    }

    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.test_lines.get(line).copied().unwrap_or(false)
    }

    /// Collects declared modules and named paths in one pass that knows the inline modules.
    fn read(&mut self) {
        let mut inline: Vec<(String, usize)> = Vec::new();
        let mut braces = 0;
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            match token.text.as_str() {
                "{" => braces += 1,
                "}" => {
                    braces -= 1;
                    inline.retain(|(_, depth)| *depth <= braces);
                }
                "mod" => {
                    let name = self.text(at + 1).to_owned();
                    if self.text(at + 2) == ";" {
                        self.declared.push(Declared {
                            inside: inline.iter().map(|(name, _)| name.clone()).collect(),
                            name,
                            line: token.line,
                            is_test: self.is_test(token.line),
                        });
                    } else if self.text(at + 2) == "{" {
                        inline.push((name, braces + 1));
                    }
                }
                first if is_word(first) && self.text(at + 1) == "::" && !self.continues(at) => {
                    let mut paths = Vec::new();
                    at = expand(&self.tokens, at, &mut Vec::new(), &mut paths);
                    let depth = inline.len();
                    let named = |(segments, line)| Named { segments, line, depth };
                    self.named.extend(paths.into_iter().map(named));
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    /// Whether the word at `at` is in the middle of a path.
    fn continues(&self, at: usize) -> bool {
        at > 0 && self.text(at - 1) == "::"
    }

    /// Functions outside tests: name, line, and lines of code between its braces.
    pub(crate) fn functions(&self) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            if token.text != "fn" || !is_word(self.text(at + 1)) || self.is_test(token.line) {
                continue;
            }
            if let Some((open, close)) = body(&self.tokens, at) {
                let lines = self.blanked.lines().skip(open).take(close.saturating_sub(open + 1));
                let count = lines.filter(|line| !line.trim().is_empty()).count();
                found.push((self.text(at + 1).to_owned(), token.line, count));
            }
        }
        found
    }
}

pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Lines of the opening and the closing brace of the item at `at`; none when it ends with `;`.
fn body(tokens: &[Token], at: usize) -> Option<(usize, usize)> {
    let (mut round, mut curly, mut open) = (0i32, 0i32, 0);
    for token in tokens.get(at..)? {
        match token.text.as_str() {
            "(" | "[" => round += 1,
            ")" | "]" => round -= 1,
            ";" if round == 0 && curly == 0 => return None,
            "{" => {
                if curly == 0 {
                    open = token.line;
                }
                curly += 1;
            }
            "}" => {
                curly -= 1;
                if curly == 0 {
                    return Some((open, token.line));
                }
            }
            _ => {}
        }
    }
    None
}

/// Marks the items behind `#[cfg(test)]`, `#[cfg(all(test, ...))]` and `#[test]`.
fn mark_tests(tokens: &[Token], test_lines: &mut [bool]) {
    for (at, token) in tokens.iter().enumerate() {
        if token.text != "#" {
            continue;
        }
        let words: Vec<&str> =
            tokens.iter().skip(at).map(|token| token.text.as_str()).take(40).collect();
        let Some(end) = words.iter().position(|word| *word == "]") else { continue };
        let attribute = words.get(..end).unwrap_or(&[]);
        let is_cfg = attribute.get(2) == Some(&"cfg") && !attribute.contains(&"not");
        if !(attribute.get(2) == Some(&"test") || is_cfg && attribute.contains(&"test")) {
            continue;
        }
        let after = at + end + 1;
        let last = match body(tokens, after) {
            Some((_, close)) => close,
            None => {
                tokens.iter().skip(after).find(|t| t.text == ";").map_or(token.line, |t| t.line)
            }
        };
        for line in token.line..=last {
            if let Some(mark) = test_lines.get_mut(line) {
                *mark = true;
            }
        }
    }
}

type Paths = Vec<(Vec<String>, usize)>;

/// Expands the path at `at` and returns the index behind it.
fn expand(tokens: &[Token], mut at: usize, prefix: &mut Vec<String>, out: &mut Paths) -> usize {
    let kept = prefix.len();
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let line = tokens.get(at).map_or(0, |token| token.line);
    loop {
        if text(at) == "{" {
            at += 1;
            while at < tokens.len() && text(at) != "}" {
                if is_word(text(at)) {
                    at = expand(tokens, at, prefix, out);
                } else {
                    at += 1;
                }
            }
            at += 1;
            break;
        }
        if !is_word(text(at)) {
            out.push((prefix.clone(), line));
            break;
        }
        prefix.push(text(at).to_owned());
        at += 1;
        if text(at) == "::" {
            at += 1;
        } else {
            // A macro's path ends in `!`, which tells `crate::mutant!` from a module.
            if text(at) == "!" && text(at + 1) != "=" {
                prefix.push("!".to_owned());
            }
            out.push((prefix.clone(), line));
            break;
        }
    }
    prefix.truncate(kept);
    at
}

fn tokens(code: &str) -> Vec<Token> {
    let mut found = Vec::new();
    for (index, text) in code.lines().enumerate() {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = if is_word(rest) || first.is_ascii_digit() {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (token, tail) = rest.split_at(length);
            if !token.trim().is_empty() {
                found.push(Token { text: token.to_owned(), line: index + 1 });
            }
            rest = tail;
        }
    }
    found
}

/// Replaces comments and the insides of literals by blanks; keeps every line end.
pub(crate) fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(here) = chars.get(at).copied() {
        let end = skipped(&chars, at);
        if end > at {
            let hidden = chars.get(at..end).unwrap_or(&[]);
            out.extend(hidden.iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(here);
            at += 1;
        }
    }
    out
}

/// The end of the comment or literal that starts at `at`; `at` itself when none does.
fn skipped(chars: &[char], at: usize) -> usize {
    let get = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let in_word = at > 0 && (get(at - 1).is_alphanumeric() || get(at - 1) == '_');
    match get(at) {
        '/' if get(at + 1) == '/' => {
            chars.iter().skip(at).position(|c| *c == '\n').map_or(chars.len(), |n| at + n)
        }
        '/' if get(at + 1) == '*' => block_comment(chars, at),
        '"' => quoted(chars, at),
        'r' if !in_word || (get(at - 1) == 'b' && at > 0) => raw(chars, at).unwrap_or(at),
        '\'' if get(at + 1) == '\\' => {
            // The escaped character itself may be a quote.
            let from = at + 3;
            chars.iter().skip(from).position(|c| *c == '\'').map_or(chars.len(), |n| from + n + 1)
        }
        '\'' if get(at + 2) == '\'' => at + 3,
        _ => at,
    }
}

fn block_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0usize, start);
    while at < chars.len() {
        match (chars.get(at), chars.get(at + 1)) {
            (Some('/'), Some('*')) => (depth, at) = (depth + 1, at + 2),
            (Some('*'), Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(here) = chars.get(at) {
        match here {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars.iter().skip(start + 1).take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let mut at = open + 1;
    while at < chars.len() {
        let closing = chars.get(at) == Some(&'"')
            && chars.iter().skip(at + 1).take(hashes).filter(|c| **c == '#').count() == hashes;
        if closing {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(chars.len())
}
