//! The values that rooms exchange. Pure: no I/O, no clock, no configuration, no other room.

pub mod action;
pub mod address;
pub mod catalogue;
pub mod code;
pub mod credential;
pub mod decision;
pub mod definitions;
pub mod detector;
pub mod event;
pub mod flow;
pub mod http;
pub mod ids;
pub mod mode;
pub mod pod;
pub mod principal;
pub mod promise;
pub mod results;
pub mod sensitive;
pub mod size;
pub mod statement;
pub mod way;
