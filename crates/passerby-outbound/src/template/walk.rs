//! Judges a template by reading it: which variables it uses, and where.
//!
//! The tree is minijinja's own, so it cannot be read in another way here than when it is carried out. What is not named
//! here is refused: a new construct of the language is closed until somebody has thought about it.

use minijinja::machinery::{
    Span,
    ast::{BinOpKind, CallArg, Expr, Filter, IfCond, Stmt, Test},
    parse,
};

use super::{
    engine,
    fault::{Part, Reason, TemplateFault},
    html::Html,
    kind::{Kind, Variable, VariableKind},
};

/// Judges one part.
pub(super) fn walk(kind: Kind, part: Part, source: &str) -> Result<(), TemplateFault> {
    let syntax = minijinja::syntax::SyntaxConfig::default();
    let tree = parse(source, part.name(), syntax).map_err(|e| engine::fault(part, &e))?;
    let html = (part == Part::Html).then(Html::new);
    let mut walker = Walker { variables: kind.variables(), locals: Vec::new(), html, part, said: Vec::new() };
    walker.statement(&tree)?;
    let last = source.matches('\n').count() + 1;
    if walker.html.as_ref().is_some_and(|html| !html.is_whole()) {
        return Err(TemplateFault::new(part, last, Reason::Html("a tag or comment is not ended".into())));
    }
    match kind.purpose() {
        Some(name) if part != Part::Subject && !walker.said.contains(&name) => {
            Err(TemplateFault::new(part, 0, Reason::Missing(name)))
        }
        _ => Ok(()),
    }
}

struct Walker<'a> {
    variables: &'static [Variable],
    /// Names that loops around give.
    locals: Vec<&'a str>,
    html: Option<Html>,
    part: Part,
    /// Variables that come out, whichever way is taken.
    said: Vec<&'static str>,
}

type Verdict = Result<(), TemplateFault>;

impl<'a> Walker<'a> {
    fn refuse(&self, span: Span, reason: Reason) -> TemplateFault {
        TemplateFault::new(self.part, usize::from(span.start_line).max(1), reason)
    }

    fn not_taken(&self, span: Span, what: impl Into<Box<str>>) -> Verdict {
        Err(self.refuse(span, Reason::NotTaken(what.into())))
    }

    fn statements(&mut self, all: &[Stmt<'a>]) -> Verdict {
        all.iter().try_for_each(|one| self.statement(one))
    }

    fn statement(&mut self, statement: &Stmt<'a>) -> Verdict {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitRaw(raw) => {
                let Some(html) = &mut self.html else { return Ok(()) };
                let mut line = usize::from(raw.span().start_line).max(1);
                for c in raw.raw.chars() {
                    html.push(c).map_err(|why| TemplateFault::new(self.part, line, Reason::Html(why.into())))?;
                    line += usize::from(c == '\n');
                }
                Ok(())
            }
            Stmt::EmitExpr(emit) => {
                self.expression(&emit.expr)?;
                self.said.extend(self.says(&emit.expr));
                let span = emit.span();
                let kind = match &emit.expr {
                    Expr::Var(var) => self.variable(var.id).map(|variable| variable.kind),
                    _ => None,
                };
                if kind == Some(VariableKind::Object) {
                    return self.not_taken(span, "an object as a whole");
                }
                if let Some(html) = &mut self.html {
                    let put = html.value(kind == Some(VariableKind::Link));
                    put.map_err(|why| self.refuse(span, Reason::Html(why.into())))?;
                }
                Ok(())
            }
            Stmt::IfCond(condition) => self.condition(condition.span(), condition),
            Stmt::ForLoop(each) => {
                let Expr::Var(target) = &each.target else {
                    return self.not_taken(each.span(), "a loop with more than one name");
                };
                if each.recursive {
                    return self.not_taken(each.span(), "a recursive loop");
                }
                if self.variable(target.id).is_some() || target.id == "loop" {
                    return self.not_taken(each.span(), format!("the name {} for a loop", target.id));
                }
                self.expression(&each.iter)?;
                let (before, said) = (self.html.clone(), self.said.len());
                self.locals.extend([target.id, "loop"]);
                each.filter_expr.iter().try_for_each(|filter| self.expression(filter))?;
                self.statements(&each.body)?;
                self.locals.truncate(self.locals.len() - 2);
                self.same_place(each.span(), before.as_ref())?;
                self.statements(&each.else_body)?;
                // what a loop says is not always said
                self.said.truncate(said);
                self.same_place(each.span(), before.as_ref())
            }
            Stmt::WithBlock(block) => self.not_taken(block.span(), "{% with %}"),
            Stmt::Set(set) => self.not_taken(set.span(), "{% set %}"),
            Stmt::SetBlock(set) => self.not_taken(set.span(), "{% set %}"),
            Stmt::AutoEscape(block) => self.not_taken(block.span(), "{% autoescape %}"),
            Stmt::FilterBlock(block) => self.not_taken(block.span(), "{% filter %}"),
            Stmt::Do(call) => self.not_taken(call.span(), "{% do %}"),
            #[allow(unreachable_patterns, reason = "other crates of a build may switch on more of the language")]
            _ => Err(TemplateFault::new(self.part, 0, Reason::NotTaken("a statement".into()))),
        }
    }

    /// Both ways must end at the same place of the HTML, so that what follows is in one place whichever is taken.
    fn condition(&mut self, span: Span, condition: &IfCond<'a>) -> Verdict {
        self.expression(&condition.expr)?;
        let before = self.html.clone();
        let said = self.said.len();
        self.statements(&condition.true_body)?;
        let after = std::mem::replace(&mut self.html, before);
        // what only one way says is not always said
        let one: Vec<_> = self.said.drain(said..).collect();
        self.statements(&condition.false_body)?;
        let other: Vec<_> = self.said.drain(said..).collect();
        self.said.extend(one.into_iter().filter(|name| other.contains(name)));
        self.same_place(span, after.as_ref())
    }

    fn same_place(&self, span: Span, other: Option<&Html>) -> Verdict {
        if self.html.as_ref() == other {
            return Ok(());
        }
        let why = "what is within {% if %} or {% for %} must end where it began: in the same tag, or in none";
        Err(self.refuse(span, Reason::Html(why.into())))
    }

    fn variable(&self, name: &str) -> Option<&'static Variable> {
        self.variables.iter().find(|variable| variable.name == name)
    }

    /// The variable whose value comes out of the expression, whatever its dress.
    fn says(&self, expression: &Expr<'a>) -> Option<&'static str> {
        match expression {
            Expr::Var(var) => self.variable(var.id).map(|variable| variable.name),
            Expr::Filter(filter) if !matches!(filter.name, "length" | "urlencode") => self.says(filter.expr.as_ref()?),
            _ => None,
        }
    }

    fn expression(&mut self, expression: &Expr<'a>) -> Verdict {
        match expression {
            Expr::Const(_) => Ok(()),
            Expr::Var(var) => {
                if self.variable(var.id).is_some() || self.locals.contains(&var.id) {
                    return Ok(());
                }
                Err(self.refuse(var.span(), Reason::UnknownVariable(var.id.into())))
            }
            Expr::UnaryOp(op) => self.expression(&op.expr),
            Expr::BinOp(op) => {
                use BinOpKind::{Eq, Gt, Gte, In, Lt, Lte, Ne, ScAnd, ScOr};
                if !matches!(op.op, Eq | Ne | Lt | Lte | Gt | Gte | ScAnd | ScOr | In) {
                    return self.not_taken(op.span(), "arithmetic, or joining texts");
                }
                self.expression(&op.left)?;
                self.expression(&op.right)
            }
            Expr::Compare(compare) => {
                self.expression(&compare.expr)?;
                compare.ops.iter().try_for_each(|op| self.expression(&op.expr))
            }
            Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr)?;
                self.expression(&choice.true_expr)?;
                match &choice.false_expr {
                    Some(other) => self.expression(other),
                    None => self.not_taken(choice.span(), "an if without else in a value"),
                }
            }
            Expr::Filter(filter) => self.filter(filter.span(), filter),
            Expr::Test(test) => self.test(test.span(), test),
            Expr::GetAttr(get) => self.member(get.span(), &get.expr),
            Expr::GetItem(get) => {
                self.member(get.span(), &get.expr)?;
                self.expression(&get.subscript_expr)
            }
            Expr::List(list) => list.items.iter().try_for_each(|item| self.expression(item)),
            other => self.not_taken(other.span(), format!("a {}", other.description())),
        }
    }

    /// Only objects have members: `state`, what loops give, and members of these.
    fn member(&mut self, span: Span, of: &Expr<'a>) -> Verdict {
        match of {
            Expr::GetAttr(_) | Expr::GetItem(_) => self.expression(of),
            Expr::Var(var) => match self.variable(var.id) {
                Some(variable) if variable.kind != VariableKind::Object => {
                    self.not_taken(span, format!("a member of {}", var.id))
                }
                _ => self.expression(of),
            },
            _ => self.not_taken(span, "a member of an expression"),
        }
    }

    fn filter(&mut self, span: Span, filter: &Filter<'a>) -> Verdict {
        if !engine::FILTERS.contains(&filter.name) {
            return self.not_taken(span, format!("the filter {}", filter.name));
        }
        let Some(expression) = &filter.expr else { return self.not_taken(span, "a filter of nothing") };
        self.expression(expression)?;
        self.arguments(span, &filter.args)
    }

    fn test(&mut self, span: Span, test: &Test<'a>) -> Verdict {
        if !engine::TESTS.contains(&test.name) {
            return self.not_taken(span, format!("the test {}", test.name));
        }
        self.expression(&test.expr)?;
        self.arguments(span, &test.args)
    }

    fn arguments(&mut self, span: Span, arguments: &[CallArg<'a>]) -> Verdict {
        arguments.iter().try_for_each(|argument| match argument {
            CallArg::Pos(expression) => self.expression(expression),
            _ => self.not_taken(span, "an argument with a name or a star"),
        })
    }
}
