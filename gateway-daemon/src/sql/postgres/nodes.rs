//! Every node kind of the parse tree, sorted by where PostgreSQL's raw grammar may put it.
//!
//! The walk matches without a wildcard arm: each room handles its own group variant by variant and names the
//! other groups by these patterns, so that a kind which a later grammar adds does not compile until someone
//! has decided what it means.

use pg_query::NodeEnum;

/// Kinds that only analysis or planning makes: a raw parse tree never holds them.
macro_rules! planner_node {
    () => {
        NodeEnum::TableFunc(_)
            | NodeEnum::IntoClause(_)
            | NodeEnum::Var(_)
            | NodeEnum::Param(_)
            | NodeEnum::Aggref(_)
            | NodeEnum::WindowFunc(_)
            | NodeEnum::WindowFuncRunCondition(_)
            | NodeEnum::SubscriptingRef(_)
            | NodeEnum::FuncExpr(_)
            | NodeEnum::OpExpr(_)
            | NodeEnum::DistinctExpr(_)
            | NodeEnum::NullIfExpr(_)
            | NodeEnum::ScalarArrayOpExpr(_)
            | NodeEnum::SubPlan(_)
            | NodeEnum::AlternativeSubPlan(_)
            | NodeEnum::FieldSelect(_)
            | NodeEnum::FieldStore(_)
            | NodeEnum::RelabelType(_)
            | NodeEnum::CoerceViaIo(_)
            | NodeEnum::ArrayCoerceExpr(_)
            | NodeEnum::ConvertRowtypeExpr(_)
            | NodeEnum::CollateExpr(_)
            | NodeEnum::CaseTestExpr(_)
            | NodeEnum::ArrayExpr(_)
            | NodeEnum::RowCompareExpr(_)
            | NodeEnum::JsonConstructorExpr(_)
            | NodeEnum::JsonExpr(_)
            | NodeEnum::JsonTablePath(_)
            | NodeEnum::JsonTablePathScan(_)
            | NodeEnum::JsonTableSiblingJoin(_)
            | NodeEnum::MergeAction(_)
            | NodeEnum::CoerceToDomain(_)
            | NodeEnum::CoerceToDomainValue(_)
            | NodeEnum::NextValueExpr(_)
            | NodeEnum::InferenceElem(_)
            | NodeEnum::ReturningExpr(_)
            | NodeEnum::TargetEntry(_)
            | NodeEnum::RangeTblRef(_)
            | NodeEnum::FromExpr(_)
            | NodeEnum::OnConflictExpr(_)
            | NodeEnum::Query(_)
            | NodeEnum::RangeTblEntry(_)
            | NodeEnum::RtepermissionInfo(_)
            | NodeEnum::RangeTblFunction(_)
            | NodeEnum::TableSampleClause(_)
            | NodeEnum::WithCheckOption(_)
            | NodeEnum::SortGroupClause(_)
            | NodeEnum::WindowClause(_)
            | NodeEnum::RowMarkClause(_)
            | NodeEnum::SetOperationStmt(_)
            | NodeEnum::PlassignStmt(_)
            | NodeEnum::RawStmt(_)
            | NodeEnum::InlineCodeBlock(_)
            | NodeEnum::CallContext(_)
            | NodeEnum::JsonReturning(_)
            | NodeEnum::IntList(_)
            | NodeEnum::OidList(_)
    };
}
pub(super) use planner_node;

/// What may stand in FROM.
macro_rules! source_node {
    () => {
        NodeEnum::RangeVar(_)
            | NodeEnum::RangeSubselect(_)
            | NodeEnum::RangeFunction(_)
            | NodeEnum::RangeTableFunc(_)
            | NodeEnum::RangeTableSample(_)
            | NodeEnum::JsonTable(_)
            | NodeEnum::JoinExpr(_)
    };
}
pub(super) use source_node;

/// What may stand where a value is expected.
macro_rules! expression_node {
    () => {
        NodeEnum::GroupingFunc(_)
            | NodeEnum::MergeSupportFunc(_)
            | NodeEnum::NamedArgExpr(_)
            | NodeEnum::BoolExpr(_)
            | NodeEnum::SubLink(_)
            | NodeEnum::CaseExpr(_)
            | NodeEnum::CaseWhen(_)
            | NodeEnum::RowExpr(_)
            | NodeEnum::CoalesceExpr(_)
            | NodeEnum::MinMaxExpr(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::XmlExpr(_)
            | NodeEnum::JsonValueExpr(_)
            | NodeEnum::JsonIsPredicate(_)
            | NodeEnum::JsonBehavior(_)
            | NodeEnum::NullTest(_)
            | NodeEnum::BooleanTest(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::CurrentOfExpr(_)
            | NodeEnum::ColumnRef(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::AExpr(_)
            | NodeEnum::TypeCast(_)
            | NodeEnum::CollateClause(_)
            | NodeEnum::FuncCall(_)
            | NodeEnum::AStar(_)
            | NodeEnum::AIndices(_)
            | NodeEnum::AIndirection(_)
            | NodeEnum::AArrayExpr(_)
            | NodeEnum::ResTarget(_)
            | NodeEnum::MultiAssignRef(_)
            | NodeEnum::SortBy(_)
            | NodeEnum::XmlSerialize(_)
            | NodeEnum::JsonArgument(_)
            | NodeEnum::JsonFuncExpr(_)
            | NodeEnum::JsonKeyValue(_)
            | NodeEnum::JsonParseExpr(_)
            | NodeEnum::JsonScalarExpr(_)
            | NodeEnum::JsonSerializeExpr(_)
            | NodeEnum::JsonObjectConstructor(_)
            | NodeEnum::JsonArrayConstructor(_)
            | NodeEnum::JsonArrayQueryConstructor(_)
            | NodeEnum::JsonObjectAgg(_)
            | NodeEnum::JsonArrayAgg(_)
            | NodeEnum::GroupingSet(_)
            | NodeEnum::List(_)
            | NodeEnum::AConst(_)
    };
}
pub(super) use expression_node;

/// Whole statements.
macro_rules! statement_node {
    () => {
        NodeEnum::InsertStmt(_)
            | NodeEnum::DeleteStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::MergeStmt(_)
            | NodeEnum::SelectStmt(_)
            | NodeEnum::CreateSchemaStmt(_)
            | NodeEnum::AlterTableStmt(_)
            | NodeEnum::AlterCollationStmt(_)
            | NodeEnum::AlterDomainStmt(_)
            | NodeEnum::GrantStmt(_)
            | NodeEnum::GrantRoleStmt(_)
            | NodeEnum::AlterDefaultPrivilegesStmt(_)
            | NodeEnum::CopyStmt(_)
            | NodeEnum::VariableSetStmt(_)
            | NodeEnum::VariableShowStmt(_)
            | NodeEnum::CreateStmt(_)
            | NodeEnum::CreateTableSpaceStmt(_)
            | NodeEnum::DropTableSpaceStmt(_)
            | NodeEnum::AlterTableSpaceOptionsStmt(_)
            | NodeEnum::AlterTableMoveAllStmt(_)
            | NodeEnum::CreateExtensionStmt(_)
            | NodeEnum::AlterExtensionStmt(_)
            | NodeEnum::AlterExtensionContentsStmt(_)
            | NodeEnum::CreateFdwStmt(_)
            | NodeEnum::AlterFdwStmt(_)
            | NodeEnum::CreateForeignServerStmt(_)
            | NodeEnum::AlterForeignServerStmt(_)
            | NodeEnum::CreateForeignTableStmt(_)
            | NodeEnum::CreateUserMappingStmt(_)
            | NodeEnum::AlterUserMappingStmt(_)
            | NodeEnum::DropUserMappingStmt(_)
            | NodeEnum::ImportForeignSchemaStmt(_)
            | NodeEnum::CreatePolicyStmt(_)
            | NodeEnum::AlterPolicyStmt(_)
            | NodeEnum::CreateAmStmt(_)
            | NodeEnum::CreateTrigStmt(_)
            | NodeEnum::CreateEventTrigStmt(_)
            | NodeEnum::AlterEventTrigStmt(_)
            | NodeEnum::CreatePlangStmt(_)
            | NodeEnum::CreateRoleStmt(_)
            | NodeEnum::AlterRoleStmt(_)
            | NodeEnum::AlterRoleSetStmt(_)
            | NodeEnum::DropRoleStmt(_)
            | NodeEnum::CreateSeqStmt(_)
            | NodeEnum::AlterSeqStmt(_)
            | NodeEnum::DefineStmt(_)
            | NodeEnum::CreateDomainStmt(_)
            | NodeEnum::CreateOpClassStmt(_)
            | NodeEnum::CreateOpFamilyStmt(_)
            | NodeEnum::AlterOpFamilyStmt(_)
            | NodeEnum::DropStmt(_)
            | NodeEnum::TruncateStmt(_)
            | NodeEnum::CommentStmt(_)
            | NodeEnum::SecLabelStmt(_)
            | NodeEnum::DeclareCursorStmt(_)
            | NodeEnum::ClosePortalStmt(_)
            | NodeEnum::FetchStmt(_)
            | NodeEnum::IndexStmt(_)
            | NodeEnum::CreateStatsStmt(_)
            | NodeEnum::AlterStatsStmt(_)
            | NodeEnum::CreateFunctionStmt(_)
            | NodeEnum::AlterFunctionStmt(_)
            | NodeEnum::DoStmt(_)
            | NodeEnum::CallStmt(_)
            | NodeEnum::RenameStmt(_)
            | NodeEnum::AlterObjectDependsStmt(_)
            | NodeEnum::AlterObjectSchemaStmt(_)
            | NodeEnum::AlterOwnerStmt(_)
            | NodeEnum::AlterOperatorStmt(_)
            | NodeEnum::AlterTypeStmt(_)
            | NodeEnum::RuleStmt(_)
            | NodeEnum::NotifyStmt(_)
            | NodeEnum::ListenStmt(_)
            | NodeEnum::UnlistenStmt(_)
            | NodeEnum::TransactionStmt(_)
            | NodeEnum::CompositeTypeStmt(_)
            | NodeEnum::CreateEnumStmt(_)
            | NodeEnum::CreateRangeStmt(_)
            | NodeEnum::AlterEnumStmt(_)
            | NodeEnum::ViewStmt(_)
            | NodeEnum::LoadStmt(_)
            | NodeEnum::CreatedbStmt(_)
            | NodeEnum::AlterDatabaseStmt(_)
            | NodeEnum::AlterDatabaseRefreshCollStmt(_)
            | NodeEnum::AlterDatabaseSetStmt(_)
            | NodeEnum::DropdbStmt(_)
            | NodeEnum::AlterSystemStmt(_)
            | NodeEnum::ClusterStmt(_)
            | NodeEnum::VacuumStmt(_)
            | NodeEnum::ExplainStmt(_)
            | NodeEnum::CreateTableAsStmt(_)
            | NodeEnum::RefreshMatViewStmt(_)
            | NodeEnum::CheckPointStmt(_)
            | NodeEnum::DiscardStmt(_)
            | NodeEnum::LockStmt(_)
            | NodeEnum::ConstraintsSetStmt(_)
            | NodeEnum::ReindexStmt(_)
            | NodeEnum::CreateConversionStmt(_)
            | NodeEnum::CreateCastStmt(_)
            | NodeEnum::CreateTransformStmt(_)
            | NodeEnum::PrepareStmt(_)
            | NodeEnum::ExecuteStmt(_)
            | NodeEnum::DeallocateStmt(_)
            | NodeEnum::DropOwnedStmt(_)
            | NodeEnum::ReassignOwnedStmt(_)
            | NodeEnum::AlterTsdictionaryStmt(_)
            | NodeEnum::AlterTsconfigurationStmt(_)
            | NodeEnum::CreatePublicationStmt(_)
            | NodeEnum::AlterPublicationStmt(_)
            | NodeEnum::CreateSubscriptionStmt(_)
            | NodeEnum::AlterSubscriptionStmt(_)
            | NodeEnum::DropSubscriptionStmt(_)
    };
}
pub(super) use statement_node;

/// Parts of statements, handled by the statement that owns them.
macro_rules! clause_node {
    () => {
        NodeEnum::Alias(_)
            | NodeEnum::JsonFormat(_)
            | NodeEnum::TypeName(_)
            | NodeEnum::RoleSpec(_)
            | NodeEnum::WindowDef(_)
            | NodeEnum::RangeTableFuncCol(_)
            | NodeEnum::ColumnDef(_)
            | NodeEnum::TableLikeClause(_)
            | NodeEnum::IndexElem(_)
            | NodeEnum::DefElem(_)
            | NodeEnum::LockingClause(_)
            | NodeEnum::PartitionElem(_)
            | NodeEnum::PartitionSpec(_)
            | NodeEnum::PartitionBoundSpec(_)
            | NodeEnum::PartitionRangeDatum(_)
            | NodeEnum::PartitionCmd(_)
            | NodeEnum::WithClause(_)
            | NodeEnum::InferClause(_)
            | NodeEnum::OnConflictClause(_)
            | NodeEnum::CtesearchClause(_)
            | NodeEnum::CtecycleClause(_)
            | NodeEnum::CommonTableExpr(_)
            | NodeEnum::MergeWhenClause(_)
            | NodeEnum::ReturningOption(_)
            | NodeEnum::ReturningClause(_)
            | NodeEnum::TriggerTransition(_)
            | NodeEnum::JsonOutput(_)
            | NodeEnum::JsonTablePathSpec(_)
            | NodeEnum::JsonTableColumn(_)
            | NodeEnum::JsonAggConstructor(_)
            | NodeEnum::ReturnStmt(_)
            | NodeEnum::AlterTableCmd(_)
            | NodeEnum::AtalterConstraint(_)
            | NodeEnum::ReplicaIdentityStmt(_)
            | NodeEnum::ObjectWithArgs(_)
            | NodeEnum::AccessPriv(_)
            | NodeEnum::Constraint(_)
            | NodeEnum::CreateOpClassItem(_)
            | NodeEnum::StatsElem(_)
            | NodeEnum::FunctionParameter(_)
            | NodeEnum::VacuumRelation(_)
            | NodeEnum::PublicationTable(_)
            | NodeEnum::PublicationObjSpec(_)
            | NodeEnum::Integer(_)
            | NodeEnum::Float(_)
            | NodeEnum::Boolean(_)
            | NodeEnum::String(_)
            | NodeEnum::BitString(_)
    };
}
pub(super) use clause_node;

/// The kind's name, for messages.
pub(super) fn kind(node: &NodeEnum) -> &'static str {
    match node {
        NodeEnum::Alias(_) => "Alias",
        NodeEnum::RangeVar(_) => "RangeVar",
        NodeEnum::TableFunc(_) => "TableFunc",
        NodeEnum::IntoClause(_) => "IntoClause",
        NodeEnum::Var(_) => "Var",
        NodeEnum::Param(_) => "Param",
        NodeEnum::Aggref(_) => "Aggref",
        NodeEnum::GroupingFunc(_) => "GroupingFunc",
        NodeEnum::WindowFunc(_) => "WindowFunc",
        NodeEnum::WindowFuncRunCondition(_) => "WindowFuncRunCondition",
        NodeEnum::MergeSupportFunc(_) => "MergeSupportFunc",
        NodeEnum::SubscriptingRef(_) => "SubscriptingRef",
        NodeEnum::FuncExpr(_) => "FuncExpr",
        NodeEnum::NamedArgExpr(_) => "NamedArgExpr",
        NodeEnum::OpExpr(_) => "OpExpr",
        NodeEnum::DistinctExpr(_) => "DistinctExpr",
        NodeEnum::NullIfExpr(_) => "NullIfExpr",
        NodeEnum::ScalarArrayOpExpr(_) => "ScalarArrayOpExpr",
        NodeEnum::BoolExpr(_) => "BoolExpr",
        NodeEnum::SubLink(_) => "SubLink",
        NodeEnum::SubPlan(_) => "SubPlan",
        NodeEnum::AlternativeSubPlan(_) => "AlternativeSubPlan",
        NodeEnum::FieldSelect(_) => "FieldSelect",
        NodeEnum::FieldStore(_) => "FieldStore",
        NodeEnum::RelabelType(_) => "RelabelType",
        NodeEnum::CoerceViaIo(_) => "CoerceViaIo",
        NodeEnum::ArrayCoerceExpr(_) => "ArrayCoerceExpr",
        NodeEnum::ConvertRowtypeExpr(_) => "ConvertRowtypeExpr",
        NodeEnum::CollateExpr(_) => "CollateExpr",
        NodeEnum::CaseExpr(_) => "CaseExpr",
        NodeEnum::CaseWhen(_) => "CaseWhen",
        NodeEnum::CaseTestExpr(_) => "CaseTestExpr",
        NodeEnum::ArrayExpr(_) => "ArrayExpr",
        NodeEnum::RowExpr(_) => "RowExpr",
        NodeEnum::RowCompareExpr(_) => "RowCompareExpr",
        NodeEnum::CoalesceExpr(_) => "CoalesceExpr",
        NodeEnum::MinMaxExpr(_) => "MinMaxExpr",
        NodeEnum::SqlvalueFunction(_) => "SqlvalueFunction",
        NodeEnum::XmlExpr(_) => "XmlExpr",
        NodeEnum::JsonFormat(_) => "JsonFormat",
        NodeEnum::JsonReturning(_) => "JsonReturning",
        NodeEnum::JsonValueExpr(_) => "JsonValueExpr",
        NodeEnum::JsonConstructorExpr(_) => "JsonConstructorExpr",
        NodeEnum::JsonIsPredicate(_) => "JsonIsPredicate",
        NodeEnum::JsonBehavior(_) => "JsonBehavior",
        NodeEnum::JsonExpr(_) => "JsonExpr",
        NodeEnum::JsonTablePath(_) => "JsonTablePath",
        NodeEnum::JsonTablePathScan(_) => "JsonTablePathScan",
        NodeEnum::JsonTableSiblingJoin(_) => "JsonTableSiblingJoin",
        NodeEnum::NullTest(_) => "NullTest",
        NodeEnum::BooleanTest(_) => "BooleanTest",
        NodeEnum::MergeAction(_) => "MergeAction",
        NodeEnum::CoerceToDomain(_) => "CoerceToDomain",
        NodeEnum::CoerceToDomainValue(_) => "CoerceToDomainValue",
        NodeEnum::SetToDefault(_) => "SetToDefault",
        NodeEnum::CurrentOfExpr(_) => "CurrentOfExpr",
        NodeEnum::NextValueExpr(_) => "NextValueExpr",
        NodeEnum::InferenceElem(_) => "InferenceElem",
        NodeEnum::ReturningExpr(_) => "ReturningExpr",
        NodeEnum::TargetEntry(_) => "TargetEntry",
        NodeEnum::RangeTblRef(_) => "RangeTblRef",
        NodeEnum::JoinExpr(_) => "JoinExpr",
        NodeEnum::FromExpr(_) => "FromExpr",
        NodeEnum::OnConflictExpr(_) => "OnConflictExpr",
        NodeEnum::Query(_) => "Query",
        NodeEnum::TypeName(_) => "TypeName",
        NodeEnum::ColumnRef(_) => "ColumnRef",
        NodeEnum::ParamRef(_) => "ParamRef",
        NodeEnum::AExpr(_) => "AExpr",
        NodeEnum::TypeCast(_) => "TypeCast",
        NodeEnum::CollateClause(_) => "CollateClause",
        NodeEnum::RoleSpec(_) => "RoleSpec",
        NodeEnum::FuncCall(_) => "FuncCall",
        NodeEnum::AStar(_) => "AStar",
        NodeEnum::AIndices(_) => "AIndices",
        NodeEnum::AIndirection(_) => "AIndirection",
        NodeEnum::AArrayExpr(_) => "AArrayExpr",
        NodeEnum::ResTarget(_) => "ResTarget",
        NodeEnum::MultiAssignRef(_) => "MultiAssignRef",
        NodeEnum::SortBy(_) => "SortBy",
        NodeEnum::WindowDef(_) => "WindowDef",
        NodeEnum::RangeSubselect(_) => "RangeSubselect",
        NodeEnum::RangeFunction(_) => "RangeFunction",
        NodeEnum::RangeTableFunc(_) => "RangeTableFunc",
        NodeEnum::RangeTableFuncCol(_) => "RangeTableFuncCol",
        NodeEnum::RangeTableSample(_) => "RangeTableSample",
        NodeEnum::ColumnDef(_) => "ColumnDef",
        NodeEnum::TableLikeClause(_) => "TableLikeClause",
        NodeEnum::IndexElem(_) => "IndexElem",
        NodeEnum::DefElem(_) => "DefElem",
        NodeEnum::LockingClause(_) => "LockingClause",
        NodeEnum::XmlSerialize(_) => "XmlSerialize",
        NodeEnum::PartitionElem(_) => "PartitionElem",
        NodeEnum::PartitionSpec(_) => "PartitionSpec",
        NodeEnum::PartitionBoundSpec(_) => "PartitionBoundSpec",
        NodeEnum::PartitionRangeDatum(_) => "PartitionRangeDatum",
        NodeEnum::PartitionCmd(_) => "PartitionCmd",
        NodeEnum::RangeTblEntry(_) => "RangeTblEntry",
        NodeEnum::RtepermissionInfo(_) => "RtepermissionInfo",
        NodeEnum::RangeTblFunction(_) => "RangeTblFunction",
        NodeEnum::TableSampleClause(_) => "TableSampleClause",
        NodeEnum::WithCheckOption(_) => "WithCheckOption",
        NodeEnum::SortGroupClause(_) => "SortGroupClause",
        NodeEnum::GroupingSet(_) => "GroupingSet",
        NodeEnum::WindowClause(_) => "WindowClause",
        NodeEnum::RowMarkClause(_) => "RowMarkClause",
        NodeEnum::WithClause(_) => "WithClause",
        NodeEnum::InferClause(_) => "InferClause",
        NodeEnum::OnConflictClause(_) => "OnConflictClause",
        NodeEnum::CtesearchClause(_) => "CtesearchClause",
        NodeEnum::CtecycleClause(_) => "CtecycleClause",
        NodeEnum::CommonTableExpr(_) => "CommonTableExpr",
        NodeEnum::MergeWhenClause(_) => "MergeWhenClause",
        NodeEnum::ReturningOption(_) => "ReturningOption",
        NodeEnum::ReturningClause(_) => "ReturningClause",
        NodeEnum::TriggerTransition(_) => "TriggerTransition",
        NodeEnum::JsonOutput(_) => "JsonOutput",
        NodeEnum::JsonArgument(_) => "JsonArgument",
        NodeEnum::JsonFuncExpr(_) => "JsonFuncExpr",
        NodeEnum::JsonTablePathSpec(_) => "JsonTablePathSpec",
        NodeEnum::JsonTable(_) => "JsonTable",
        NodeEnum::JsonTableColumn(_) => "JsonTableColumn",
        NodeEnum::JsonKeyValue(_) => "JsonKeyValue",
        NodeEnum::JsonParseExpr(_) => "JsonParseExpr",
        NodeEnum::JsonScalarExpr(_) => "JsonScalarExpr",
        NodeEnum::JsonSerializeExpr(_) => "JsonSerializeExpr",
        NodeEnum::JsonObjectConstructor(_) => "JsonObjectConstructor",
        NodeEnum::JsonArrayConstructor(_) => "JsonArrayConstructor",
        NodeEnum::JsonArrayQueryConstructor(_) => "JsonArrayQueryConstructor",
        NodeEnum::JsonAggConstructor(_) => "JsonAggConstructor",
        NodeEnum::JsonObjectAgg(_) => "JsonObjectAgg",
        NodeEnum::JsonArrayAgg(_) => "JsonArrayAgg",
        NodeEnum::RawStmt(_) => "RawStmt",
        NodeEnum::InsertStmt(_) => "InsertStmt",
        NodeEnum::DeleteStmt(_) => "DeleteStmt",
        NodeEnum::UpdateStmt(_) => "UpdateStmt",
        NodeEnum::MergeStmt(_) => "MergeStmt",
        NodeEnum::SelectStmt(_) => "SelectStmt",
        NodeEnum::SetOperationStmt(_) => "SetOperationStmt",
        NodeEnum::ReturnStmt(_) => "ReturnStmt",
        NodeEnum::PlassignStmt(_) => "PlassignStmt",
        NodeEnum::CreateSchemaStmt(_) => "CreateSchemaStmt",
        NodeEnum::AlterTableStmt(_) => "AlterTableStmt",
        NodeEnum::AlterTableCmd(_) => "AlterTableCmd",
        NodeEnum::AtalterConstraint(_) => "AtalterConstraint",
        NodeEnum::ReplicaIdentityStmt(_) => "ReplicaIdentityStmt",
        NodeEnum::AlterCollationStmt(_) => "AlterCollationStmt",
        NodeEnum::AlterDomainStmt(_) => "AlterDomainStmt",
        NodeEnum::GrantStmt(_) => "GrantStmt",
        NodeEnum::ObjectWithArgs(_) => "ObjectWithArgs",
        NodeEnum::AccessPriv(_) => "AccessPriv",
        NodeEnum::GrantRoleStmt(_) => "GrantRoleStmt",
        NodeEnum::AlterDefaultPrivilegesStmt(_) => "AlterDefaultPrivilegesStmt",
        NodeEnum::CopyStmt(_) => "CopyStmt",
        NodeEnum::VariableSetStmt(_) => "VariableSetStmt",
        NodeEnum::VariableShowStmt(_) => "VariableShowStmt",
        NodeEnum::CreateStmt(_) => "CreateStmt",
        NodeEnum::Constraint(_) => "Constraint",
        NodeEnum::CreateTableSpaceStmt(_) => "CreateTableSpaceStmt",
        NodeEnum::DropTableSpaceStmt(_) => "DropTableSpaceStmt",
        NodeEnum::AlterTableSpaceOptionsStmt(_) => "AlterTableSpaceOptionsStmt",
        NodeEnum::AlterTableMoveAllStmt(_) => "AlterTableMoveAllStmt",
        NodeEnum::CreateExtensionStmt(_) => "CreateExtensionStmt",
        NodeEnum::AlterExtensionStmt(_) => "AlterExtensionStmt",
        NodeEnum::AlterExtensionContentsStmt(_) => "AlterExtensionContentsStmt",
        NodeEnum::CreateFdwStmt(_) => "CreateFdwStmt",
        NodeEnum::AlterFdwStmt(_) => "AlterFdwStmt",
        NodeEnum::CreateForeignServerStmt(_) => "CreateForeignServerStmt",
        NodeEnum::AlterForeignServerStmt(_) => "AlterForeignServerStmt",
        NodeEnum::CreateForeignTableStmt(_) => "CreateForeignTableStmt",
        NodeEnum::CreateUserMappingStmt(_) => "CreateUserMappingStmt",
        NodeEnum::AlterUserMappingStmt(_) => "AlterUserMappingStmt",
        NodeEnum::DropUserMappingStmt(_) => "DropUserMappingStmt",
        NodeEnum::ImportForeignSchemaStmt(_) => "ImportForeignSchemaStmt",
        NodeEnum::CreatePolicyStmt(_) => "CreatePolicyStmt",
        NodeEnum::AlterPolicyStmt(_) => "AlterPolicyStmt",
        NodeEnum::CreateAmStmt(_) => "CreateAmStmt",
        NodeEnum::CreateTrigStmt(_) => "CreateTrigStmt",
        NodeEnum::CreateEventTrigStmt(_) => "CreateEventTrigStmt",
        NodeEnum::AlterEventTrigStmt(_) => "AlterEventTrigStmt",
        NodeEnum::CreatePlangStmt(_) => "CreatePlangStmt",
        NodeEnum::CreateRoleStmt(_) => "CreateRoleStmt",
        NodeEnum::AlterRoleStmt(_) => "AlterRoleStmt",
        NodeEnum::AlterRoleSetStmt(_) => "AlterRoleSetStmt",
        NodeEnum::DropRoleStmt(_) => "DropRoleStmt",
        NodeEnum::CreateSeqStmt(_) => "CreateSeqStmt",
        NodeEnum::AlterSeqStmt(_) => "AlterSeqStmt",
        NodeEnum::DefineStmt(_) => "DefineStmt",
        NodeEnum::CreateDomainStmt(_) => "CreateDomainStmt",
        NodeEnum::CreateOpClassStmt(_) => "CreateOpClassStmt",
        NodeEnum::CreateOpClassItem(_) => "CreateOpClassItem",
        NodeEnum::CreateOpFamilyStmt(_) => "CreateOpFamilyStmt",
        NodeEnum::AlterOpFamilyStmt(_) => "AlterOpFamilyStmt",
        NodeEnum::DropStmt(_) => "DropStmt",
        NodeEnum::TruncateStmt(_) => "TruncateStmt",
        NodeEnum::CommentStmt(_) => "CommentStmt",
        NodeEnum::SecLabelStmt(_) => "SecLabelStmt",
        NodeEnum::DeclareCursorStmt(_) => "DeclareCursorStmt",
        NodeEnum::ClosePortalStmt(_) => "ClosePortalStmt",
        NodeEnum::FetchStmt(_) => "FetchStmt",
        NodeEnum::IndexStmt(_) => "IndexStmt",
        NodeEnum::CreateStatsStmt(_) => "CreateStatsStmt",
        NodeEnum::StatsElem(_) => "StatsElem",
        NodeEnum::AlterStatsStmt(_) => "AlterStatsStmt",
        NodeEnum::CreateFunctionStmt(_) => "CreateFunctionStmt",
        NodeEnum::FunctionParameter(_) => "FunctionParameter",
        NodeEnum::AlterFunctionStmt(_) => "AlterFunctionStmt",
        NodeEnum::DoStmt(_) => "DoStmt",
        NodeEnum::InlineCodeBlock(_) => "InlineCodeBlock",
        NodeEnum::CallStmt(_) => "CallStmt",
        NodeEnum::CallContext(_) => "CallContext",
        NodeEnum::RenameStmt(_) => "RenameStmt",
        NodeEnum::AlterObjectDependsStmt(_) => "AlterObjectDependsStmt",
        NodeEnum::AlterObjectSchemaStmt(_) => "AlterObjectSchemaStmt",
        NodeEnum::AlterOwnerStmt(_) => "AlterOwnerStmt",
        NodeEnum::AlterOperatorStmt(_) => "AlterOperatorStmt",
        NodeEnum::AlterTypeStmt(_) => "AlterTypeStmt",
        NodeEnum::RuleStmt(_) => "RuleStmt",
        NodeEnum::NotifyStmt(_) => "NotifyStmt",
        NodeEnum::ListenStmt(_) => "ListenStmt",
        NodeEnum::UnlistenStmt(_) => "UnlistenStmt",
        NodeEnum::TransactionStmt(_) => "TransactionStmt",
        NodeEnum::CompositeTypeStmt(_) => "CompositeTypeStmt",
        NodeEnum::CreateEnumStmt(_) => "CreateEnumStmt",
        NodeEnum::CreateRangeStmt(_) => "CreateRangeStmt",
        NodeEnum::AlterEnumStmt(_) => "AlterEnumStmt",
        NodeEnum::ViewStmt(_) => "ViewStmt",
        NodeEnum::LoadStmt(_) => "LoadStmt",
        NodeEnum::CreatedbStmt(_) => "CreatedbStmt",
        NodeEnum::AlterDatabaseStmt(_) => "AlterDatabaseStmt",
        NodeEnum::AlterDatabaseRefreshCollStmt(_) => "AlterDatabaseRefreshCollStmt",
        NodeEnum::AlterDatabaseSetStmt(_) => "AlterDatabaseSetStmt",
        NodeEnum::DropdbStmt(_) => "DropdbStmt",
        NodeEnum::AlterSystemStmt(_) => "AlterSystemStmt",
        NodeEnum::ClusterStmt(_) => "ClusterStmt",
        NodeEnum::VacuumStmt(_) => "VacuumStmt",
        NodeEnum::VacuumRelation(_) => "VacuumRelation",
        NodeEnum::ExplainStmt(_) => "ExplainStmt",
        NodeEnum::CreateTableAsStmt(_) => "CreateTableAsStmt",
        NodeEnum::RefreshMatViewStmt(_) => "RefreshMatViewStmt",
        NodeEnum::CheckPointStmt(_) => "CheckPointStmt",
        NodeEnum::DiscardStmt(_) => "DiscardStmt",
        NodeEnum::LockStmt(_) => "LockStmt",
        NodeEnum::ConstraintsSetStmt(_) => "ConstraintsSetStmt",
        NodeEnum::ReindexStmt(_) => "ReindexStmt",
        NodeEnum::CreateConversionStmt(_) => "CreateConversionStmt",
        NodeEnum::CreateCastStmt(_) => "CreateCastStmt",
        NodeEnum::CreateTransformStmt(_) => "CreateTransformStmt",
        NodeEnum::PrepareStmt(_) => "PrepareStmt",
        NodeEnum::ExecuteStmt(_) => "ExecuteStmt",
        NodeEnum::DeallocateStmt(_) => "DeallocateStmt",
        NodeEnum::DropOwnedStmt(_) => "DropOwnedStmt",
        NodeEnum::ReassignOwnedStmt(_) => "ReassignOwnedStmt",
        NodeEnum::AlterTsdictionaryStmt(_) => "AlterTsdictionaryStmt",
        NodeEnum::AlterTsconfigurationStmt(_) => "AlterTsconfigurationStmt",
        NodeEnum::PublicationTable(_) => "PublicationTable",
        NodeEnum::PublicationObjSpec(_) => "PublicationObjSpec",
        NodeEnum::CreatePublicationStmt(_) => "CreatePublicationStmt",
        NodeEnum::AlterPublicationStmt(_) => "AlterPublicationStmt",
        NodeEnum::CreateSubscriptionStmt(_) => "CreateSubscriptionStmt",
        NodeEnum::AlterSubscriptionStmt(_) => "AlterSubscriptionStmt",
        NodeEnum::DropSubscriptionStmt(_) => "DropSubscriptionStmt",
        NodeEnum::Integer(_) => "Integer",
        NodeEnum::Float(_) => "Float",
        NodeEnum::Boolean(_) => "Boolean",
        NodeEnum::String(_) => "String",
        NodeEnum::BitString(_) => "BitString",
        NodeEnum::List(_) => "List",
        NodeEnum::IntList(_) => "IntList",
        NodeEnum::OidList(_) => "OidList",
        NodeEnum::AConst(_) => "AConst",
    }
}
