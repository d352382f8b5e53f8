//! An empty `lambda_http` function: the floor that start time and memory of the functions are measured against.

use lambda_http::{Body, Error, Request, Response, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(async |_: Request| Response::builder().status(200).body(Body::Empty).map_err(Error::from))).await
}
