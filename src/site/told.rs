//! Responses of the site's own, where there is no file to be sent.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use http::{HeaderValue, StatusCode};
use percent_encoding::{CONTROLS, utf8_percent_encode};

use super::{Desk, listing, path};
use crate::http::{Body, Request, Response};

pub(super) fn listed(page: &Bytes, desk: &Desk) -> Response {
    let response = Response::new(StatusCode::OK)
        .with("Content-Type", &HeaderValue::from_static("text/html; charset=utf-8"))
        .with("X-Content-Type-Options", &HeaderValue::from_static("nosniff"))
        .with_body(Body::Bytes(page.clone()));
    let response = match desk.manner.sets(&CONTENT_SECURITY_POLICY) {
        true => response,
        false => response.with("Content-Security-Policy", &HeaderValue::from_static(listing::POLICY)),
    };
    let response = match desk.manner.sets(&CACHE_CONTROL) {
        true => response,
        false => response.with("Cache-Control", &HeaderValue::from_static("no-cache")),
    };
    desk.told(response)
}

pub(super) fn nothing_there() -> Response {
    Response::text(StatusCode::NOT_FOUND, "There is nothing at this address.")
}

pub(super) fn not_acceptable() -> Response {
    Response::text(StatusCode::NOT_ACCEPTABLE, "There is no content coding here that the request accepts.")
        .with("Vary", &HeaderValue::from_static("Accept-Encoding"))
}

pub(super) fn forbidden() -> Response {
    Response::text(StatusCode::FORBIDDEN, "This file may not be read.")
}

pub(super) fn unavailable() -> Response {
    Response::text(StatusCode::SERVICE_UNAVAILABLE, "The file cannot be read at the moment. Try again later.")
        .with("Retry-After", &HeaderValue::from_static("1"))
}

pub(super) fn busy() -> Response {
    Response::text(StatusCode::SERVICE_UNAVAILABLE, "Too many files are asked for at the moment. Try again later.")
        .with("Retry-After", &HeaderValue::from_static("5"))
}

/// Redirects to the path of a folder with a slash at its end, without which relative links would lead astray.
///
/// The location is made from the path that was looked at, which begins with a segment: it cannot begin with two
/// slashes and so cannot lead to another host.
pub(super) fn redirect_to_folder(path: &[u8], request: &Request) -> Response {
    let path = path::encoded(path);
    let location = match request.target.query() {
        Some(query) => format!("/{path}/?{}", utf8_percent_encode(query, CONTROLS)),
        None => format!("/{path}/"),
    };
    let location = HeaderValue::from_str(&location).expect("a location is percent-encoded");
    Response::text(StatusCode::MOVED_PERMANENTLY, "This is a folder: its address ends with a slash.")
        .with("Location", &location)
}
