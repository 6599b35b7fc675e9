//! Puts mutants behind a switch: `mutants FIRST SKIP FILE…` rewrites each file in place, so that an expression is another one
//! where `gpuwaste_facts::mutant(N)` is true. Numbers go on from FIRST; those in the file SKIP (one a line) are left out. A line a
//! mutant goes to stdout: number, file, line, what it was, what it is.

use proc_macro2::LineColumn;
use std::collections::BTreeSet;
use std::process::ExitCode;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{BinOp, Block, Expr, ExprBinary, ExprUnary, File, ImplItemFn, Item, ItemFn, ReturnType, Signature, Type, UnOp};

/// An expression, and what stands in its place where its number is switched on.
struct Site {
    from: usize,
    to: usize,
    /// Of an operator: where it stands, and the other one. Of a body: what it returns.
    kind: Kind,
    line: usize,
}

enum Kind {
    Operator { from: usize, to: usize, other: &'static str },
    Without { from: usize },
    Returns { value: &'static str },
}

struct Finder<'s> {
    starts: &'s [usize],
    sites: Vec<Site>,
}

impl Finder<'_> {
    fn at(&self, place: LineColumn, text: &str) -> usize {
        let from = self.starts[place.line - 1];
        // Columns count characters.
        from + text[from..].chars().take(place.column).map(char::len_utf8).sum::<usize>()
    }
}

struct Walk<'f, 's> {
    finder: &'f mut Finder<'s>,
    text: &'f str,
}

impl Walk<'_, '_> {
    fn range(&self, span: proc_macro2::Span) -> (usize, usize) {
        (self.finder.at(span.start(), self.text), self.finder.at(span.end(), self.text))
    }

    fn add(&mut self, span: proc_macro2::Span, kind: Kind) {
        let (from, to) = self.range(span);
        let line = span.start().line;
        self.finder.sites.push(Site { from, to, kind, line });
    }

    fn body(&mut self, sig: &Signature, block: &Block) {
        if sig.constness.is_some() {
            return;
        }
        let values: &[&'static str] = match &sig.output {
            ReturnType::Type(_, of) => match &**of {
                Type::Path(p) => match p.path.segments.last().map(|s| s.ident.to_string()).as_deref() {
                    Some("bool") => &["true", "false"],
                    Some("Option") => &["None"],
                    Some("Vec" | "String" | "UsdPerHour" | "Bytes" | "Tokens") => &["Default::default()"],
                    Some("f64") => &["0.0"],
                    Some("u32" | "u64" | "usize") => &["0"],
                    _ => &[],
                },
                _ => &[],
            },
            ReturnType::Default => &["()"],
        };
        for value in values {
            self.add(block.span(), Kind::Returns { value });
        }
        self.visit_block(block);
    }
}

fn has_let(e: &Expr) -> bool {
    match e {
        Expr::Let(_) => true,
        Expr::Binary(b) => has_let(&b.left) || has_let(&b.right),
        Expr::Paren(p) => has_let(&p.expr),
        _ => false,
    }
}

impl<'a> Visit<'a> for Walk<'_, '_> {
    fn visit_item(&mut self, item: &'a Item) {
        let attributes = match item {
            Item::Mod(m) => &m.attrs,
            Item::Const(_) | Item::Static(_) | Item::Macro(_) => return,
            _ => return syn::visit::visit_item(self, item),
        };
        if !attributes.iter().any(|a| a.path().is_ident("cfg")) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, f: &'a ItemFn) {
        if !f.attrs.iter().any(|a| a.path().is_ident("test") || a.path().is_ident("cfg")) {
            self.body(&f.sig, &f.block);
        }
    }

    fn visit_impl_item_fn(&mut self, f: &'a ImplItemFn) {
        self.body(&f.sig, &f.block);
    }

    fn visit_impl_item_const(&mut self, _: &'a syn::ImplItemConst) {}

    // A length has to be known when compiling.
    fn visit_type_array(&mut self, _: &'a syn::TypeArray) {}

    fn visit_pat(&mut self, _: &'a syn::Pat) {}

    fn visit_expr_binary(&mut self, b: &'a ExprBinary) {
        let other = match b.op {
            BinOp::Lt(_) => "<=",
            BinOp::Le(_) => "<",
            BinOp::Gt(_) => ">=",
            BinOp::Ge(_) => ">",
            BinOp::Eq(_) => "!=",
            BinOp::Ne(_) => "==",
            BinOp::And(_) => "||",
            BinOp::Or(_) => "&&",
            BinOp::Add(_) => "-",
            BinOp::Sub(_) => "+",
            BinOp::Mul(_) => "/",
            BinOp::Div(_) => "*",
            BinOp::AddAssign(_) => "-=",
            BinOp::SubAssign(_) => "+=",
            _ => "",
        };
        let lets = has_let(&b.left) || has_let(&b.right);
        if !other.is_empty() && !lets {
            let (from, to) = self.range(b.op.span());
            self.add(b.span(), Kind::Operator { from, to, other });
        }
        syn::visit::visit_expr_binary(self, b);
    }

    fn visit_expr_unary(&mut self, u: &'a ExprUnary) {
        if matches!(u.op, UnOp::Not(_)) {
            let (from, _) = self.range(u.expr.span());
            self.add(u.span(), Kind::Without { from });
        }
        syn::visit::visit_expr_unary(self, u);
    }
}

struct Writer<'t> {
    text: &'t str,
    sites: Vec<Site>,
    next: u32,
    skip: BTreeSet<u32>,
    file: String,
}

impl Writer<'_> {
    /// The text from `from` to `to` with the sites inside it, which are sorted by where they begin, the larger first.
    fn write(&mut self, from: usize, to: usize, index: &mut usize) -> String {
        let mut out = String::new();
        let mut at = from;
        while let Some(site) = self.sites.get(*index).filter(|s| s.from < to) {
            let (a, b) = (site.from, site.to);
            out.push_str(&self.text[at..a]);
            *index += 1;
            let number = self.next;
            self.next += 1;
            let whole = self.text[a..b].to_string();
            let (other, returns) = match &site.kind {
                Kind::Operator { from, to, other } => (format!("{}{other}{}", &whole[..from - a], &whole[to - a..]), None),
                Kind::Without { from } => (whole[from - a..].to_string(), None),
                Kind::Returns { value } => (String::new(), Some(*value)),
            };
            let line = site.line;
            let inner = self.write(a, b, index);
            at = b;
            if self.skip.contains(&number) {
                out.push_str(&inner);
                continue;
            }
            let flat = |t: &str| t.split_whitespace().collect::<Vec<_>>().join(" ");
            if let Some(value) = returns {
                // `inner` begins with the block's brace.
                println!("{number}\t{}\t{line}\tbody\treturn {value}", self.file);
                out.push_str(&format!("{{ if ::gpuwaste_facts::mutant({number}) {{ return {value}; }} {}", &inner[1..]));
            } else {
                println!("{number}\t{}\t{line}\t{}\t{}", self.file, flat(&whole), flat(&other));
                out.push_str(&format!("(if ::gpuwaste_facts::mutant({number}) {{ {other} }} else {{ {inner} }})"));
            }
        }
        out.push_str(&self.text[at..to]);
        out
    }
}

fn rewrite(path: &str, first: u32, skip: &BTreeSet<u32>) -> Result<u32, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let file: File = syn::parse_file(&text).map_err(|e| format!("{path}: {e}"))?;
    let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
    let mut finder = Finder { starts: &starts, sites: Vec::new() };
    Walk { finder: &mut finder, text: &text }.visit_file(&file);
    let mut sites = finder.sites;
    sites.sort_by_key(|s| (s.from, std::cmp::Reverse(s.to)));
    let mut writer = Writer { text: &text, sites, next: first, skip: skip.clone(), file: path.to_string() };
    let out = writer.write(0, text.len(), &mut 0);
    std::fs::write(path, out).map_err(|e| format!("{path}: {e}"))?;
    Ok(writer.next)
}

fn run() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: mutants FIRST SKIP FILE…";
    let mut next: u32 = args.next().and_then(|n| n.parse().ok()).ok_or(usage)?;
    let skip = std::fs::read_to_string(args.next().ok_or(usage)?).map_err(|e| e.to_string())?;
    let skip = skip.lines().filter_map(|l| l.trim().parse().ok()).collect();
    for path in args {
        next = rewrite(&path, next, &skip)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("mutants: {why}");
            ExitCode::FAILURE
        }
    }
}
