//! Our operators and functions as bytes, beside Ballista's own.
//!
//! Sent of a plan: the files that a scan reads and their columns' names, the expressions of filters, projections and
//! joins, the caps, the bounds ([`super::wire`]) and the key of the hash that chooses a unit's groups. The key is a secret of
//! the release: who has it and a query's rows can tell which groups of a unit are dropped. Not sent: who asks, the
//! text that was asked, names of results, listed keys, budgets, noise laws, minimum sizes.

use std::collections::BTreeSet;
use std::sync::Arc;

use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::expressions::Column;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Deserialize, Serialize};

use crate::release::{CapExec, EpochOf, SelectionKey};

use super::partition_bound::PartitionBoundExec;
use super::wire::{Bounding, epoch_kind};

/// What stands before our bytes. No message of Ballista's begins so: as protobuf its first byte is a field of a wire type
/// that does not exist. The number is the form's version: workers of another are refused.
const MAGIC: &[u8] = b"tollgate\x01";

/// An operator of ours.
#[derive(Debug, Serialize, Deserialize)]
enum SentOperator {
    Bound { bounding: Bounding, selection_key: SelectionKey },
    Cap { keys: Vec<(String, usize)>, most: usize },
}

/// The function that says in which epoch a row is.
#[derive(Debug, Serialize, Deserialize)]
struct SentEpochOf {
    kind: String,
    epochs: Vec<i32>,
}

/// Writes and reads our operators, and leaves the others to Ballista.
#[derive(Debug, Default)]
pub struct ClusterCodec {
    ballista: BallistaPhysicalExtensionCodec,
}

impl PhysicalExtensionCodec for ClusterCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(ours) = buf.strip_prefix(MAGIC) else {
            return self.ballista.try_decode(buf, inputs, ctx, proto_converter);
        };
        let [input] = inputs else { return internal_err!("our operators have one input") };
        match read(ours)? {
            SentOperator::Bound { bounding, selection_key } => {
                let spec = bounding.spec()?;
                if input.schema().fields().len() != spec.input_width() {
                    return internal_err!("a release's input has other columns than it says");
                }
                Ok(Arc::new(PartitionBoundExec::new(Arc::clone(input), Arc::new(spec), selection_key)))
            }
            SentOperator::Cap { keys, most } => {
                let column = |(name, index): (String, usize)| -> Result<Arc<dyn PhysicalExpr>> {
                    let schema = input.schema();
                    match schema.fields().get(index) {
                        Some(field) if *field.name() == name => Ok(Arc::new(Column::new(&name, index))),
                        _ => internal_err!("a cap by a column that is not there"),
                    }
                };
                let keys = keys.into_iter().map(column).collect::<Result<_>>()?;
                if most == 0 {
                    return internal_err!("a cap of no rows");
                }
                Ok(Arc::new(CapExec::new(Arc::clone(input), keys, most)))
            }
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let any: &dyn std::any::Any = node.as_ref();
        let ours = if let Some(bound) = any.downcast_ref::<PartitionBoundExec>() {
            SentOperator::Bound { bounding: Bounding::new(bound.spec())?, selection_key: bound.selection_key() }
        } else if let Some(cap) = any.downcast_ref::<CapExec>() {
            let column = |key: &Arc<dyn PhysicalExpr>| {
                let any: &dyn std::any::Any = key.as_ref();
                match any.downcast_ref::<Column>() {
                    Some(column) => Ok((column.name().to_owned(), column.index())),
                    None => internal_err!("a cap by what is no column"),
                }
            };
            SentOperator::Cap { keys: cap.keys().iter().map(column).collect::<Result<_>>()?, most: cap.most() }
        } else {
            return self.ballista.try_encode(node, buf, proto_converter);
        };
        buf.extend_from_slice(MAGIC);
        write(&ours, buf)
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        let Some(ours) = buf.strip_prefix(MAGIC) else { return self.ballista.try_decode_udf(name, buf) };
        let SentEpochOf { kind, epochs } = read(ours)?;
        let epochs: BTreeSet<i32> = epochs.into_iter().collect();
        Ok(Arc::new(ScalarUDF::new_from_impl(EpochOf::new(epoch_kind(&kind)?, &epochs))))
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        let any: &dyn std::any::Any = node.inner().as_ref();
        let Some(epoch) = any.downcast_ref::<EpochOf>() else { return self.ballista.try_encode_udf(node, buf) };
        buf.extend_from_slice(MAGIC);
        write(&SentEpochOf { kind: epoch.kind().as_str().to_owned(), epochs: epoch.epochs().to_vec() }, buf)
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|_| internal_datafusion_err!("a part of a plan cannot be read"))
}

fn write(what: &impl Serialize, buf: &mut Vec<u8>) -> Result<()> {
    serde_json::to_writer(buf, what).map_err(|_| internal_datafusion_err!("a part of a plan cannot be written"))
}
