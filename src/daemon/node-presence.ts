import { pause, within } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import { isLocked } from '../cache/lock.ts';
import type { Leases } from '../datastore/datastore.ts';
import type { Draft, Writer } from '../datastore/writer.ts';
import { CalicoError, describe, isCalicoError } from '../errors/error.ts';
import { isBeingDeleted, putReports, rejectOtherHost } from '../host/node-liveness.ts';
import {
  lastReportId,
  liveReportId,
  type HostIdentity,
  type NodeReport,
} from '../model/kinds/node-report.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Check } from '../telemetry/status-report.ts';

/** Interval and lifetime of Felix's reports (ReportingIntervalSecs, ReportingTTLSecs). */
const intervalMs = 30_000;
const ttlSeconds = 90;
/** Every host watches all keys, so the report that stays after the end is written less often. */
const lastReportMs = 300_000;
const leaveMs = 2000;

export interface NodePresenceOptions {
  readonly node: string;
  /** Sentences on the choice of the name. */
  readonly nameWarnings: readonly string[];
  readonly nodeNameFile: string;
  /** Returns the leases of the store; `undefined`: it serves one host, and no other can have its name. */
  readonly leases: () => Leases | undefined;
  readonly identity: () => HostIdentity;
  readonly startedAt: Date;
  readonly now: () => Date;
  readonly log: Logger;
}

/**
 * This host's place among the nodes: it claims its name, reports that it lives, and refuses writes once the node was
 * deleted or another host has the name.
 */
export class NodePresence {
  readonly #options: NodePresenceOptions;
  #problem: CalicoError | undefined;
  #isClaimed = false;
  #lease: string | undefined;
  #lastReportAt = 0;
  /** The plan that has just run is a claim. */
  #hasClaimed = false;

  constructor(options: NodePresenceOptions) {
    this.#options = options;
  }

  /** Why this host is no node of the cluster; `undefined` if it is. */
  get problem(): CalicoError | undefined {
    return this.#problem;
  }

  /**
   * To be called for every plan that writes: throws `node/deleted` or `node/name-taken`. The commit holds only if the
   * Node stays the same, so that a daemon never writes what a deletion of its node has removed.
   */
  guard(draft: Draft): void {
    const { node } = this.#options;
    const isClaim = this.#hasClaimed;
    this.#hasClaimed = false;
    if (isClaim || !this.#isClaimed) return;
    if (this.#problem !== undefined) throw this.#problem;
    if (draft.isUnreadable('Node', node)) return;
    const present = draft.get('Node', node);
    if (present === undefined || isBeingDeleted(present)) throw this.#deleted();
    draft.expect('Node', node);
  }

  /** Claims the name and runs a plan in one transaction. Throws `node/name-taken`, `node/being-deleted`. */
  async claim(writer: Writer, plan: (draft: Draft) => void, signal: AbortSignal): Promise<void> {
    const { node } = this.#options;
    try {
      // Read once: plans are run again, and a host may have thousands of interfaces.
      const host = this.#options.identity();
      await writer.write((draft) => this.#check(draft, host), signal);
      const lease = await this.#options.leases()?.grant(ttlSeconds);
      const { result } = await writer.write((draft) => {
        this.#check(draft, host);
        const isClaimed = lease !== undefined && !isLocked(draft);
        if (isClaimed) putReports(draft, node, this.#report(host, lease));
        plan(draft);
        this.#hasClaimed = isClaimed;
        return isClaimed;
      }, signal);
      this.#lease = result ? lease : undefined;
      this.#lastReportAt = this.#options.now().getTime();
      this.#isClaimed = true;
      this.#problem = undefined;
    } catch (error) {
      if (isCalicoError(error, 'node/name-taken', 'node/being-deleted')) this.#refuse(error);
      throw error;
    }
  }

  /** Claims the name in a store that has replaced the one before, which may have rejected this node; never rejects. */
  async claimAgain(writer: Writer, signal: AbortSignal): Promise<void> {
    this.#isClaimed = false;
    this.#lease = undefined;
    this.#problem = undefined;
    await this.claim(writer, () => undefined, signal).catch((error: unknown) =>
      this.#options.log.warn('node not claimed', { why: describe(error) }),
    );
  }

  /** Reports that this node lives, while the store has leases, until the signal is aborted; then that it does not. */
  async run(writer: Writer, work: Work, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await pause(intervalMs, signal);
      if (signal.aborted) break;
      if (this.#options.leases() === undefined) continue;
      try {
        await this.renew(writer, signal);
        work.succeeded();
      } catch (error) {
        if (!signal.aborted) work.failed(error);
      }
    }
    await this.leave(writer);
  }

  /** Returns the status checks. */
  checks(): readonly Check[] {
    const { node, nameWarnings } = this.#options;
    const problem = this.#problem;
    return [
      ...nameWarnings.map((detail) => ({ name: 'node name', ok: true, detail })),
      ...(problem === undefined
        ? []
        : [{ name: `node ${node}`, ok: false, detail: problem.message }]),
    ];
  }

  /**
   * Reports that this node lives; claims its name again if the report has expired meanwhile. Throws `node/deleted`,
   * `node/name-taken`.
   */
  async renew(writer: Writer, signal: AbortSignal): Promise<void> {
    const { node, now } = this.#options;
    const lease = this.#lease;
    const isRenewed = lease !== undefined && (await this.#options.leases()?.renew(lease)) === true;
    const { result } = await writer.write(
      (draft) => ({
        report: draft.get('NodeReport', liveReportId(node)),
        value: draft.get('Node', node),
        isUnreadable: draft.isUnreadable('Node', node),
      }),
      signal,
    );
    const { report, value, isUnreadable } = result;
    const isGone = value === undefined ? !isUnreadable : isBeingDeleted(value);
    if (isGone || this.#problem?.code === 'node/deleted') throw this.#deleted();
    if (!isRenewed || report?.lease !== lease) {
      return this.claim(writer, () => undefined, signal);
    }
    if (now().getTime() - this.#lastReportAt < lastReportMs) return;
    const host = this.#options.identity();
    await writer.write((draft) => this.#putLastReport(draft, host), signal);
    this.#lastReportAt = now().getTime();
  }

  /** Removes the report, so that the name is free at once; `renew` claims it again. */
  async leave(writer: Writer): Promise<void> {
    const { node } = this.#options;
    const leases = this.#options.leases();
    const lease = this.#lease;
    this.#lease = undefined;
    if (lease === undefined || this.#problem !== undefined) return;
    try {
      await within(leaveMs, async (signal) => {
        const host = this.#options.identity();
        const plan = (draft: Draft) => {
          const id = liveReportId(node);
          if (draft.get('NodeReport', id)?.lease !== lease) return;
          draft.remove('NodeReport', id);
          this.#putLastReport(draft, host);
        };
        await writer.write(plan, signal);
        await leases?.revoke(lease);
      });
    } catch {
      // It expires.
    }
  }

  #putLastReport(draft: Draft, host: HostIdentity): void {
    draft.put('NodeReport', lastReportId(this.#options.node), this.#report(host));
  }

  #check(draft: Draft, host: HostIdentity): void {
    const { node, nodeNameFile, leases } = this.#options;
    const present = draft.isUnreadable('Node', node) ? undefined : draft.get('Node', node);
    if (present !== undefined && isBeingDeleted(present)) {
      throw new CalicoError('node/being-deleted', { node });
    }
    if (leases() !== undefined) rejectOtherHost(draft, { node, nodeNameFile, host });
  }

  #report(host: HostIdentity, lease?: string): NodeReport {
    const { now, startedAt } = this.#options;
    return {
      time: now().toISOString(),
      uptime: Math.max(0, (now().getTime() - startedAt.getTime()) / 1000),
      first_update: true,
      ...(lease === undefined ? {} : { lease }),
      host,
    };
  }

  #deleted(): CalicoError {
    const error = new CalicoError('node/deleted', { node: this.#options.node });
    this.#refuse(error);
    return error;
  }

  #refuse(error: CalicoError): void {
    if (this.#problem?.message === error.message) return;
    this.#problem = error;
    this.#options.log.error(error.message);
  }
}
