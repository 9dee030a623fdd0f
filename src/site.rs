//! stub
use std::io; use std::time::Instant; use bytes::Bytes;
use crate::http::{Request,Response}; use crate::limits::Limits; use crate::config::SiteRoot;
#[derive(Debug)] pub struct Site;
pub enum Answer { Response(Response), Piece{bytes:Bytes,is_last:bool}, Lost }
impl Site { pub fn start(_r: SiteRoot, _l:&Limits, _w: impl Fn()+Send+'static)->io::Result<Site>{Ok(Site)}
pub fn handle(&mut self,_t:u64,_r:&Request,_n:Instant)->Option<Response>{Some(Response::text(http::StatusCode::NOT_FOUND,"no"))}
pub fn poll_answer(&mut self)->Option<(u64,Answer)>{None}
pub fn read_on(&mut self,_t:u64){} pub fn forget(&mut self,_t:u64){} }
