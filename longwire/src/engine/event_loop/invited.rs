//! Connections whose opening handshake the caller answers: the loop's side.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request};
use longwire_proto::handshake::Refusal;

use super::Loop;
use super::admission::{OpeningTask, unless};
use super::admitted::Admission;
use super::opening::{accept_unanswered, client_address};
use crate::engine::adopt::{Adoption, Invitation, Invite};
use crate::engine::handler::Handler;
use crate::engine::permit::Permit;
use crate::engine::socket::{Carried, Layer};

impl<H: Handler> OpeningTask<H> {
    /// Decides about the request. Returns the ticket, and the headers of the response.
    async fn invite(
        &self,
        mut request: Request<()>,
        from: SocketAddr,
        permit: Permit,
    ) -> Result<(u64, HeaderMap), Refusal> {
        let from = client_address(&self.options, &mut request, from)?;
        self.run_request_hook(&mut request, from).await?;
        let mut headers = HeaderMap::new();
        let accepted = accept_unanswered(&self.options, request, from, &mut headers)?;
        Ok((self.tasks.invited.borrow_mut().insert(accepted, from, permit), headers))
    }
}

impl<H: Handler> Loop<H> {
    /// Decides about a request whose opening handshake the caller answers.
    pub(super) fn invite(&self, invite: Invite) {
        let Invite { request, from, permit, mut reply } = invite;
        let (task, at) = (self.opening_task(), self.shared.local.at);
        self.spawn(async move {
            let closing = task.tasks.closing.clone();
            let asked = unless(task.invite(request, from, permit), reply.closed());
            let Some(Some(invited)) = closing.run_until_cancelled(Box::pin(asked)).await else { return };
            let engine = task.engine.clone();
            let invitation = invited.map(|(ticket, headers)| Invitation::new(engine, at, ticket, headers));
            // If the caller is gone, dropping the invitation tells this loop.
            drop(reply.send(invitation));
        });
    }

    /// Opens a connection that has a stream now.
    pub(super) fn adopt(&mut self, adoption: Adoption) {
        let Adoption { ticket, socket, failure, subprotocol, deflate, config } = adoption;
        let invited = self.tasks.invited.borrow_mut().take(ticket);
        let Some((mut accepted, from, permit)) = invited else { return };
        accepted.subprotocol = subprotocol;
        accepted.deflate = deflate;
        if let Some(config) = config {
            accepted.config = config;
        }
        let layer = Some(Layer::Carried(Box::new(Carried { from, failure })));
        self.admit(Admission { stream: socket, layer, accepted, input: Bytes::new(), permit });
    }
}
