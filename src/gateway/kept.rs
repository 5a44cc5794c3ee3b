//! The same question again: answered from the draws that are kept, without room, plan or charge (DESIGN 4.3).

use crate::analysis::Analysed;
use crate::ledger::PaidDraw;

use super::charge::Charged;
use super::draw::Drawn;
use super::facts::decode;
use super::price::Priced;
use super::{Gateway, GatewayError, translate};

impl Gateway {
    /// The kept draws of all releases, if the consumer has paid for each of them at this price or a better one, and may
    /// still be given them: the ledger is asked about the consumer every time.
    pub(super) async fn kept(
        &self,
        priced: &Priced,
        analysed: &Analysed,
        consumer: &str,
    ) -> Result<Option<Drawn>, GatewayError> {
        let mut drawn = Drawn::default();
        for (release, noise) in analysed.releases().iter().zip(&priced.releases) {
            let paid = self.store.paid_draw(consumer, noise.key, noise.precision()).await.map_err(translate::ledger)?;
            let Some(PaidDraw { charge, delta, held }) = paid else { return Ok(None) };
            drawn.noise.push(noise.at(release, held.precision, delta)?);
            drawn.batches.push(decode(&held.payload)?);
            drawn.charged.push(Charged::earlier(charge, held.precision, delta));
        }
        drawn.known = vec![Vec::new(); analysed.known().len()];
        let mut computed = 0;
        self.compute_known(analysed, analysed.releases().len(), &mut computed, &mut drawn).await?;
        Ok(Some(drawn))
    }
}
