import { randomUUID } from 'node:crypto';
import { listAll, type Datastore } from '../../datastore/datastore.ts';
import { sizeProblem } from '../../datastore/transaction-size.ts';
import { CalicoError, describe } from '../../errors/error.ts';
import type { MoveMark } from '../../model/kinds/cluster-information.ts';
import { entryTypeOf, rootPrefix } from '../../model/kinds/index.ts';
import {
  findLock,
  openText,
  putLock,
  readLock,
  refuseLocked,
  replaceLock,
  seal,
  type Lock,
} from './move-lock.ts';
import { isMoved, lockKey, planMove, sharedKeys, type Copy, type MovePlan } from './move-plan.ts';
import type { StoredItem } from '../joining/stored-items.ts';
import { deleteRecords, ownCopies, recordPrefix, valuesAtOnce } from './move-records.ts';
import { byKey, commitPatiently, patiently } from './patient-commit.ts';

/**
 * Moves all data of a host from one datastore to another. Until its last step, `seal`, the source has the data, and an
 * interrupted move is undone by unlocking the source (`settleMove`), or resumed by another one. `seal` holds only
 * if nothing was written to the source since it was locked; from then on the target has the data.
 *
 * The lock is Calico's own, so that every program that writes respects it, those included that have had the file open
 * since before: each of their transactions compares it.
 */

export interface MoveOptions {
  readonly node: string;
  readonly source: Datastore;
  readonly target: Datastore;
  /**
   * Whether the target must be empty, apart from what an earlier move of this data left there, or may have data of other
   * hosts, which has been checked for conflicts.
   */
  readonly mode: 'empty' | 'shared';
  readonly now: () => Date;
  readonly progress: (line: string) => void;
  /** Ends the writes of this process; called when the move has not been refused, before anything changes. */
  readonly quiesce: () => Promise<void>;
}

export interface MoveOutcome {
  /** Number of values written to the target. */
  readonly moved: number;
  /** Number of values that the target had already. */
  readonly kept: number;
  /** Opens the target and deletes what the move left there for its own use; repeatable. */
  readonly finish: (signal: AbortSignal) => Promise<void>;
}

/** Bytes of the values of a transaction. */
const bytesAtOnce = 1_000_000;
const undoMs = 30_000;

/**
 * Copies everything, verifies it and seals the source. Throws `datastore/has-data`, `datastore/has-nodes`,
 * `datastore/collision`, `datastore/locked`, `datastore/moving`, `datastore/moved`, and `datastore/move-failed` for
 * anything that happened after the source was locked; it is unlocked then, if it can be reached.
 */
export async function moveData(options: MoveOptions, signal: AbortSignal): Promise<MoveOutcome> {
  const { source, target, node, progress } = options;
  const before = await readLock(source, signal);
  refuseLocked(before, { endpoint: source.endpoint, node });
  if (target.leases === undefined) await refuseOtherNodes(options, signal);
  const receiver = await inspectTarget(options, before, signal);
  // Whatever can be refused is refused before anything changes.
  refuseCollisions(await comparison(options, receiver, signal), target.endpoint);
  const mark: MoveMark = {
    state: 'copying',
    id: randomUUID(),
    node,
    from: source.endpoint,
    to: target.endpoint,
    since: options.now().toISOString(),
  };
  await options.quiesce();
  const { information, item } = before;
  const locking = { information, revision: item.modRevision, mark, ranges: [] };
  const locked = await putLock(source, locking, signal);
  progress(`locked ${source.endpoint}`);
  let plan: MovePlan | undefined;
  try {
    plan = await copyAll(options, { receiver, before, mark }, signal);
    const count = await verify(options, { plan, receiver }, signal);
    progress(`verified ${count} values in ${target.endpoint}`);
    await seal(source, locked, { mark, signal });
  } catch (error) {
    const isSealed = await undo(options, { mark, before, receiver }).catch(() => false);
    if (!isSealed || plan === undefined) {
      const facts = { from: source.endpoint, to: target.endpoint, why: describe(error) };
      throw new CalicoError('datastore/move-failed', facts, { cause: error });
    }
  }
  return {
    moved: plan.copies.length,
    kept: plan.kept.length + plan.omitted,
    finish: (stop) => finishTarget(target, { mark, node, text: openText(before) }, stop),
  };
}

/** A file serves one host. */
async function refuseOtherNodes({ source, node }: MoveOptions, signal: AbortSignal): Promise<void> {
  const { prefix, idOf } = entryTypeOf.Node;
  const { items } = await listAll(source, prefix, signal);
  const others = items.flatMap(({ key }) => idOf(key) ?? []).filter((name) => name !== node);
  if (others.length === 0) return;
  const nodes = others.join(', ');
  throw new CalicoError('datastore/has-nodes', { endpoint: source.endpoint, nodes });
}

/** What a target is for a move. */
type Receiver =
  /** Nothing in it belongs to others; its lock, if it has one, is of this data. */
  | { readonly kind: 'own'; readonly lock: Lock | undefined }
  /** It serves other hosts. */
  | { readonly kind: 'shared'; readonly lock: Lock };

async function inspectTarget(
  { target, node, mode }: MoveOptions,
  before: Lock,
  signal: AbortSignal,
): Promise<Receiver> {
  const lock = await findLock(target, signal);
  const { endpoint } = target;
  if (lock === undefined) {
    const some = await firstKey(target, signal);
    if (some === undefined) return { kind: 'own', lock };
    throw new CalicoError('datastore/has-data', { endpoint, what: some });
  }
  const { clusterGUID } = lock.information.spec;
  const isOfSource = clusterGUID === before.information.spec.clusterGUID;
  const isLeft = lock.mark?.state === 'arriving' && lock.mark.node === node;
  const isOutOfDate = lock.mark?.state === 'moved' && lock.mark.node === node;
  if ((isOfSource && isLeft) || isOutOfDate) return { kind: 'own', lock };
  if (mode === 'empty') {
    const what = `cluster ${clusterGUID ?? 'without a clusterGUID'}`;
    throw new CalicoError('datastore/has-data', { endpoint, what });
  }
  refuseLocked(lock, { endpoint });
  return { kind: 'shared', lock };
}

async function firstKey(store: Datastore, signal: AbortSignal): Promise<string | undefined> {
  for await (const { items } of store.pages(rootPrefix, signal)) {
    for (const { key } of items) return key;
  }
  return undefined;
}

/** Compares what source and target have now. */
async function comparison(
  { source, target, node }: MoveOptions,
  receiver: Receiver,
  signal: AbortSignal,
): Promise<MovePlan> {
  const { items } = await listAll(source, rootPrefix, signal);
  if (receiver.kind === 'own') {
    const all = byKey((await listAll(target, rootPrefix, signal)).items);
    return planMove({ node, source: items, target: all, own: all });
  }
  return planShared(target, { node, source: items }, signal);
}

/** Returns what a move into a datastore of other hosts would do. */
export async function planShared(
  target: Pick<Datastore, 'read' | 'pages'>,
  { node, source }: { readonly node: string; readonly source: readonly StoredItem[] },
  signal: AbortSignal,
): Promise<MovePlan> {
  const own = await ownCopies(target, node, signal);
  const present = [...(await target.read(sharedKeys(node, source), signal)).items];
  for (const kind of ['IPPool', 'Block4', 'Block6'] as const) {
    present.push(...(await listAll(target, entryTypeOf[kind].prefix, signal)).items);
  }
  return planMove({ node, source, target: byKey(present), own });
}

function refuseCollisions({ collisions, copies }: MovePlan, endpoint: string): void {
  if (collisions.length > 0) {
    const [some, more] = [collisions.slice(0, 20), collisions.length - 20];
    const what = more > 0 ? `${some.join(', ')} and ${more} more` : some.join(', ');
    throw new CalicoError('datastore/collision', { endpoint, what });
  }
  for (const copy of copies) {
    const excess = sizeProblem({ compares: [{ key: copy.key, modRevision: 0n }], writes: [copy] });
    if (excess === undefined) continue;
    throw new CalicoError('datastore/too-large', { what: `${copy.key}: ${excess}` });
  }
}

/** Copies all values of the locked source. */
async function copyAll(
  options: MoveOptions,
  facts: { readonly receiver: Receiver; readonly before: Lock; readonly mark: MoveMark },
  signal: AbortSignal,
): Promise<MovePlan> {
  const { target, node, progress } = options;
  const { receiver, mark } = facts;
  const guard =
    receiver.kind === 'shared' ? receiver.lock : await reserveTarget(target, facts, signal);
  const plan = await comparison(options, receiver, signal);
  refuseCollisions(plan, target.endpoint);
  let done = 0;
  for (const [index, { copies, removals }] of stepsOf(plan).entries()) {
    const record = {
      key: `${recordPrefix}${node}/${mark.id}/${index}`,
      value: JSON.stringify(
        copies.filter(({ isMerged }) => isMerged !== true).map(({ key }) => key),
      ),
    };
    const records = receiver.kind === 'shared' ? [record] : [];
    await commitPatiently(
      target,
      {
        compares: [
          { key: lockKey, modRevision: guard.item.modRevision },
          ...[...copies, ...removals].map(({ key, over }) => ({ key, modRevision: over })),
          ...records.map(({ key }) => ({ key, modRevision: 0n })),
        ],
        writes: [
          ...copies.map(({ key, value }) => ({ key, value })),
          ...removals.map(({ key }) => ({ key, value: undefined })),
          ...records,
        ],
      },
      signal,
    );
    done += copies.length;
    progress(`copied ${done} of ${plan.copies.length} values`);
  }
  return plan;
}

/** Makes a target that has nothing of others recognizable as an incomplete copy, closed to all others. */
function reserveTarget(
  target: Datastore,
  facts: { readonly receiver: Receiver; readonly before: Lock; readonly mark: MoveMark },
  signal: AbortSignal,
): Promise<Lock> {
  const { receiver, before, mark } = facts;
  const present = receiver.lock?.item.modRevision ?? 0n;
  const information = receiver.lock?.information ?? before.information;
  // Of a target without a lock the transaction says that it is still empty.
  const ranges = present === 0n ? [{ prefix: rootPrefix, afterRevision: 0n }] : [];
  const lock = { information, revision: present, mark: { ...mark, state: 'arriving' } as const };
  return putLock(target, { ...lock, ranges }, signal);
}

interface Step {
  readonly copies: readonly Copy[];
  readonly removals: MovePlan['removals'];
}

/** Splits a plan into steps that fit a transaction. */
function stepsOf({ copies, removals }: Step): readonly Step[] {
  const steps: Step[] = [];
  for (let from = 0; from < removals.length; from += valuesAtOnce) {
    steps.push({ copies: [], removals: removals.slice(from, from + valuesAtOnce) });
  }
  let step: Copy[] = [];
  let bytes = 0;
  for (const copy of copies) {
    const size = Buffer.byteLength(copy.value) + 4 * Buffer.byteLength(copy.key);
    if (step.length === valuesAtOnce || (step.length > 0 && bytes + size > bytesAtOnce)) {
      steps.push({ copies: step, removals: [] });
      step = [];
      bytes = 0;
    }
    step.push(copy);
    bytes += size;
  }
  if (step.length > 0) steps.push({ copies: step, removals: [] });
  return steps;
}

/** Reads back what was copied. Throws if a value is missing or differs. */
async function verify(
  { target, node }: MoveOptions,
  { plan, receiver }: { readonly plan: MovePlan; readonly receiver: Receiver },
  signal: AbortSignal,
): Promise<number> {
  const expected = new Map(plan.copies.map(({ key, value }) => [key, value]));
  const keys = [...expected.keys(), ...plan.kept];
  const present =
    receiver.kind === 'own'
      ? byKey((await listAll(target, rootPrefix, signal)).items.filter(isMoved(node)))
      : byKey((await patiently(() => target.read(keys, signal), signal)).items);
  const wrong = keys.filter((key) => {
    const found = present.get(key);
    return found === undefined || found.value !== (expected.get(key) ?? found.value);
  });
  if (wrong.length === 0 && present.size === keys.length) return keys.length;
  const what =
    wrong.length === 0 ? `${present.size} values instead of ${keys.length}` : wrong.join(', ');
  throw new CalicoError('datastore/has-data', { endpoint: target.endpoint, what });
}

/** Opens the target, if it is closed by this move, and deletes the records of its copies. */
async function finishTarget(
  target: Datastore,
  { mark, node, text }: { readonly mark: MoveMark; readonly node: string; readonly text: string },
  signal: AbortSignal,
): Promise<void> {
  const lock = await findLock(target, signal);
  if (lock?.mark?.state === 'arriving' && lock.mark.id === mark.id) {
    await replaceLock(target, { item: lock.item, value: text }, signal);
  }
  await deleteRecords(target, node, signal);
}

/**
 * Unlocks the source, and removes from the target what was copied. Returns whether the source is sealed after all: then
 * nothing is undone.
 */
async function undo(
  { source, target, node }: MoveOptions,
  facts: { readonly mark: MoveMark; readonly before: Lock; readonly receiver: Receiver },
): Promise<boolean> {
  const { mark, before, receiver } = facts;
  const signal = AbortSignal.timeout(undoMs);
  const lock = await patiently(() => findLock(source, signal), signal);
  if (lock?.mark?.id !== mark.id) return false;
  if (lock.mark.state === 'moved') return true;
  await replaceLock(source, { item: lock.item, value: openText(before) }, signal);
  const arriving = await findLock(target, signal);
  const isOwn = receiver.kind === 'own' && arriving?.mark?.id === mark.id;
  if (isOwn && receiver.lock?.mark?.state === 'moved') {
    await replaceLock(target, { item: arriving.item, value: receiver.lock.item.value }, signal);
    return false;
  }
  const copied = isOwn
    ? byKey((await listAll(target, rootPrefix, signal)).items)
    : await ownCopies(target, node, signal);
  const removals = [...copied.values()].map(({ key, modRevision }) => ({ key, over: modRevision }));
  // The lock says what the rest is, so it goes last.
  const ordered = removals.toSorted(
    (a, b) => Number(a.key === lockKey) - Number(b.key === lockKey),
  );
  for (const step of stepsOf({ copies: [], removals: ordered })) {
    const compares = step.removals.map(({ key, over }) => ({ key, modRevision: over }));
    const writes = step.removals.map(({ key }) => ({ key, value: undefined }));
    await commitPatiently(target, { compares, writes }, signal);
  }
  await deleteRecords(target, node, signal);
  return false;
}
