//! Definitions that name an object of any kind: DROP, renames, moves to another schema, comments, labels, grants; and types,
//! whose changes are changes of every column that has them.

use pg_query::protobuf::{
    AlterDomainStmt, AlterObjectSchemaStmt, CommentStmt, CreateDomainStmt, DefineStmt, DropStmt, GrantStmt,
    GrantTargetType, ObjectType, RenameStmt, SecLabelStmt,
};
use pg_query::{Node, NodeEnum};

use crate::domain::statement::Verb;

use super::columns::Reads;
use super::ddl_relations::unknown_level;
use super::error::SqlError;
use super::names::{inner, parts, text, unexpected};
use super::reader::Reader;
use super::scope::{Env, Level};

impl<'a> Reader<'a> {
    pub(super) fn drop_objects(&mut self, stmt: &'a DropStmt) -> Result<(), SqlError> {
        self.cascade(Verb::Drop, stmt.behavior);
        let kind = object_type(stmt.remove_type, "DropStmt")?;
        for object in &stmt.objects {
            match (relation_part(kind), inner(object)) {
                (RelationPart::Whole, Some(NodeEnum::List(name))) => {
                    self.named_relation(Verb::Drop, &name.items)?;
                }
                (RelationPart::Owner, Some(NodeEnum::List(name))) => {
                    let (_, owner) = name.items.split_last().ok_or_else(|| unexpected(object))?;
                    self.named_relation(Verb::Drop, owner)?;
                }
                (RelationPart::None, _) => self.effect(Verb::Drop, None),
                (RelationPart::Whole | RelationPart::Owner, _) => return Err(unexpected(object)),
            }
        }
        Ok(())
    }

    /// Tags go by names: what is renamed loses them.
    pub(super) fn rename(&mut self, stmt: &'a RenameStmt) -> Result<(), SqlError> {
        use ObjectType as Kind;
        self.named(Verb::Alter, stmt.relation.as_ref())?;
        match object_type(stmt.rename_type, "RenameStmt")? {
            Kind::ObjectColumn | Kind::ObjectAttribute => {
                let Some(var) = &stmt.relation else { return Ok(()) };
                if self.is_type_alone(var) {
                    self.defines_type_named(&var.schemaname, &var.relname)?;
                }
                self.may_ask_elsewhere(var, "ALTER FOREIGN TABLE")?;
                let level = Level::of(self.target(Verb::Alter, var)?);
                let mut reads = Reads::new();
                self.resolve_name(&stmt.subname, &Env::within(&level, &Env::EMPTY), &mut reads)?;
                self.defined(&reads);
                self.moved(reads);
                Ok(())
            }
            // ALTER INDEX and ALTER SEQUENCE … RENAME take tables as well.
            Kind::ObjectTable
            | Kind::ObjectView
            | Kind::ObjectMatview
            | Kind::ObjectForeignTable
            | Kind::ObjectIndex
            | Kind::ObjectSequence => {
                let Some(var) = &stmt.relation else { return Ok(()) };
                self.may_ask_elsewhere(var, "ALTER FOREIGN TABLE")?;
                self.carries_off(var)
            }
            Kind::ObjectSchema => self.carries_off_schema(&stmt.subname),
            Kind::ObjectType | Kind::ObjectDomain => self.defines_named_type(stmt.object.as_deref()),
            // What holds no column, or keeps what it holds.
            Kind::ObjectAccessMethod
            | Kind::ObjectAggregate
            | Kind::ObjectAmop
            | Kind::ObjectAmproc
            | Kind::ObjectCast
            | Kind::ObjectCollation
            | Kind::ObjectConversion
            | Kind::ObjectDatabase
            | Kind::ObjectDefault
            | Kind::ObjectDefacl
            | Kind::ObjectDomconstraint
            | Kind::ObjectEventTrigger
            | Kind::ObjectExtension
            | Kind::ObjectFdw
            | Kind::ObjectForeignServer
            | Kind::ObjectFunction
            | Kind::ObjectLanguage
            | Kind::ObjectLargeobject
            | Kind::ObjectOpclass
            | Kind::ObjectOperator
            | Kind::ObjectOpfamily
            | Kind::ObjectParameterAcl
            | Kind::ObjectPolicy
            | Kind::ObjectProcedure
            | Kind::ObjectPublication
            | Kind::ObjectPublicationNamespace
            | Kind::ObjectPublicationRel
            | Kind::ObjectRole
            | Kind::ObjectRoutine
            | Kind::ObjectRule
            | Kind::ObjectSubscription
            | Kind::ObjectStatisticExt
            | Kind::ObjectTabconstraint
            | Kind::ObjectTablespace
            | Kind::ObjectTransform
            | Kind::ObjectTrigger
            | Kind::ObjectTsconfiguration
            | Kind::ObjectTsdictionary
            | Kind::ObjectTsparser
            | Kind::ObjectTstemplate
            | Kind::ObjectUserMapping => Ok(()),
            Kind::Undefined => Err(SqlError::UnknownNode { kind: "RenameStmt" }),
        }
    }

    /// SET SCHEMA: the same as a rename.
    pub(super) fn set_schema(&mut self, stmt: &'a AlterObjectSchemaStmt) -> Result<(), SqlError> {
        self.named(Verb::Alter, stmt.relation.as_ref())?;
        if let Some(var) = &stmt.relation {
            self.may_ask_elsewhere(var, "ALTER FOREIGN TABLE")?;
            self.carries_off(var)?;
        }
        match object_type(stmt.object_type, "AlterObjectSchemaStmt")? {
            ObjectType::ObjectType | ObjectType::ObjectDomain => {
                self.defines_named_type(stmt.object.as_deref())
            }
            // With every relation that it has made.
            ObjectType::ObjectExtension => {
                self.out_of_sight("ALTER EXTENSION … SET SCHEMA");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn defines_named_type(&mut self, object: Option<&'a Node>) -> Result<(), SqlError> {
        match object.and_then(inner) {
            Some(NodeEnum::List(name)) => self.defines_type(&name.items),
            Some(NodeEnum::TypeName(name)) => self.defines_type(&name.names),
            _ => Err(SqlError::UnknownNode { kind: "TypeName" }),
        }
    }

    /// What is said of an object is nowhere but in the catalogue.
    pub(super) fn comment(&mut self, stmt: &'a CommentStmt) -> Result<(), SqlError> {
        let kind = object_type(stmt.objtype, "CommentStmt")?;
        match (relation_part(kind), stmt.object.as_deref().and_then(inner)) {
            (RelationPart::Whole, Some(NodeEnum::List(name))) => {
                self.named_relation(Verb::Alter, &name.items)?;
            }
            (part, Some(NodeEnum::List(name)))
                if kind == ObjectType::ObjectColumn || part == RelationPart::Owner =>
            {
                let owner = name.items.split_last().map_or(&[][..], |(_, owner)| owner);
                self.named_relation(Verb::Alter, owner)?;
            }
            _ => self.effect(Verb::Alter, None),
        }
        Ok(())
    }

    /// A label is for the code of an extension to go by: for some, to decide who sees what.
    pub(super) fn security_label(&mut self, stmt: &'a SecLabelStmt) -> Result<(), SqlError> {
        self.effect(Verb::Grant, None);
        let kind = object_type(stmt.objtype, "SecLabelStmt")?;
        let Some(NodeEnum::List(name)) = stmt.object.as_deref().and_then(inner) else { return Ok(()) };
        match (kind, name.items.split_last()) {
            (ObjectType::ObjectColumn, Some((column, owner))) if !owner.is_empty() => {
                let (relation, known) = self.relation_by_parts(owner)?;
                let column = text(column).ok_or_else(|| unexpected(column))?;
                let mut reads = Reads::from([self.columns.own(&relation, column)]);
                let found = known.and_then(|relation| {
                    let mut columns = relation.columns.iter();
                    columns.find(|candidate| candidate.name == column).map(|found| (relation, found))
                });
                if let Some((relation, found)) = found {
                    self.columns.read(relation, found, &mut reads);
                }
                self.defined(&reads);
            }
            _ if relation_part(kind) == RelationPart::Whole => {
                let (relation, known) = self.relation_by_parts(&name.items)?;
                let all = self.all_columns_of(relation, known)?;
                self.defined(&all);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn grant(&mut self, stmt: &'a GrantStmt) -> Result<(), SqlError> {
        let is_relation = matches!(
            ObjectType::try_from(stmt.objtype),
            Ok(ObjectType::ObjectTable | ObjectType::ObjectSequence)
        );
        if is_relation && GrantTargetType::try_from(stmt.targtype) == Ok(GrantTargetType::AclTargetObject) {
            self.relations(Verb::Grant, &stmt.objects)
        } else {
            self.nameless(Verb::Grant)
        }
    }

    pub(super) fn create_domain(&mut self, stmt: &'a CreateDomainStmt) -> Result<(), SqlError> {
        if let Some(name) = &stmt.type_name {
            self.type_name(name, &Env::EMPTY)?;
        }
        let level = unknown_level();
        let mut reads = Reads::new();
        self.definition_parts(&stmt.constraints, &Env::within(&level, &Env::EMPTY), &mut reads)?;
        self.defined(&reads);
        self.compared(reads);
        self.nameless(Verb::Create)
    }

    /// Every value that is there is held against a constraint that is added.
    pub(super) fn alter_domain(&mut self, stmt: &'a AlterDomainStmt) -> Result<(), SqlError> {
        let level = unknown_level();
        let mut reads = Reads::new();
        if let Some(part) = stmt.def.as_deref() {
            self.definition_part(part, &Env::within(&level, &Env::EMPTY), &mut reads)?;
        }
        self.defined(&reads);
        self.compared(reads);
        match stmt.subtype.as_str() {
            // A default; NULL is allowed; a constraint is no more.
            "T" | "N" | "X" => {}
            _ => self.defines_type(&stmt.type_name)?,
        }
        self.nameless(Verb::Alter)
    }

    /// CREATE of what has no statement of its own.
    pub(super) fn define(&mut self, stmt: &'a DefineStmt) -> Result<(), SqlError> {
        const WHAT: &str = "CREATE of an operator, aggregate or type";
        parts(&stmt.defnames)?;
        match object_type(stmt.kind, "DefineStmt")? {
            ObjectType::ObjectCollation
            | ObjectType::ObjectTsconfiguration
            | ObjectType::ObjectTsdictionary => self.blind_code(Verb::Create, WHAT),
            _ => self.code(Verb::Create, WHAT),
        }
    }
}

/// How a relation is named by an object of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RelationPart {
    /// The object is a relation.
    Whole,
    /// All parts of the name but the last are a relation's.
    Owner,
    /// No relation is named.
    None,
}

fn object_type(number: i32, kind: &'static str) -> Result<ObjectType, SqlError> {
    ObjectType::try_from(number).map_err(|_| SqlError::UnknownNode { kind })
}

fn relation_part(kind: ObjectType) -> RelationPart {
    match kind {
        ObjectType::ObjectTable
        | ObjectType::ObjectView
        | ObjectType::ObjectMatview
        | ObjectType::ObjectSequence
        | ObjectType::ObjectIndex
        | ObjectType::ObjectForeignTable => RelationPart::Whole,
        ObjectType::ObjectTrigger
        | ObjectType::ObjectRule
        | ObjectType::ObjectPolicy
        | ObjectType::ObjectTabconstraint => RelationPart::Owner,
        _ => RelationPart::None,
    }
}
