import { backoffMs, pause } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import { Bird, birdFolder } from '../bird/bird.ts';
import { configText } from '../bird/config-text.ts';
import { readPassword } from '../bird/passwords.ts';
import { daemonStatus, routeStatuses } from '../bird/daemon-status.ts';
import type { BirdFacts } from '../bird/node-status.ts';
import { SessionChanges } from '../bird/session-changes.ts';
import { bgpChecks, reportOf, type BgpReport } from '../bird/report.ts';
import type { EntryChanges, Mirror } from '../cache/mirror.ts';
import { prefixProtocol, blockProtocol } from '../dataplane/routes/route-classes.ts';
import { ourProtocol } from '../dataplane/netlink/route.ts';
import type { Writer } from '../datastore/writer.ts';
import { describe } from '../errors/error.ts';
import { connectedRanges } from '../host/networks.ts';
import { briefTypeOf } from '../model/briefs.ts';
import type { EntryKind, EntryValue } from '../model/kinds/index.ts';
import { isBgpEnabled } from '../model/kinds/bgp-configuration.ts';
import { bgpIsOff } from '../routing/bgp/bgp-state.ts';
import type { BgpInputs } from '../routing/bgp/bgp-inputs.ts';
import type { BgpSession } from '../routing/bgp/bgp-sessions.ts';
import { bgpModel, endedSessions, type BgpModel } from '../routing/bgp/bgp-model.ts';
import type { Check } from '../telemetry/status-report.ts';
import type { AgentComponent } from './agent-component.ts';
import type { Common } from './common.ts';
import { keepNodeStatuses } from './node-statuses.ts';

/** The kinds that the sessions and announcements depend on. */
const kinds: ReadonlySet<EntryKind> = new Set<EntryKind>([
  'Node',
  'IPPool',
  'BGPConfiguration',
  'BGPPeer',
  'BGPFilter',
  'Block4',
  'Block6',
]);

/** Changes within this time become one configuration. */
const coalesceMs = 20;
/** How often BIRD's sessions are read: from them follows whether it runs, and whether its routes can be relied on. */
const pollMs = 1000;
/** Time for all hosts to have their own routes before sessions end by a change. */
const bridgeMs = 1000;
/** Password files and the host's networks are read again. */
const rereadMs = 30_000;

/** BGP on this host: keeps BIRD running as the datastore says. */
export interface BgpComponent {
  readonly report: () => Promise<BgpReport>;
  readonly checks: () => Promise<readonly Check[]>;
  /** Follows the datastore until the daemon's signal is aborted; BIRD continues then. */
  run(): Promise<void>;
}

export function createBgpComponent(
  common: Common,
  {
    mirror,
    writer,
    agent,
  }: { readonly mirror: Mirror; readonly writer: Writer; readonly agent: AgentComponent },
): BgpComponent {
  const { settings, signal, node, runner, keep, sockets } = common;
  const bird = new Bird(birdFolder(settings.controlSocket), runner);
  const speaker = new Speaker({
    common,
    bird,
    agent,
    isWanted: () =>
      settings.bgp !== 'off' &&
      isBgpEnabled(mirror.get('BGPConfiguration', 'default')?.value) &&
      mirror.get('Node', node) !== undefined,
    inputs: () => ({
      node,
      nodes: valuesOf(mirror, 'Node'),
      configurations: valuesOf(mirror, 'BGPConfiguration'),
      peers: valuesOf(mirror, 'BGPPeer'),
      filters: valuesOf(mirror, 'BGPFilter'),
      pools: valuesOf(mirror, 'IPPool'),
      blocks: (['Block4', 'Block6'] as const).flatMap((kind) => [
        // Those with addresses of this host are cached whole.
        ...[...mirror.cached(kind).values()].map(({ value }) => briefTypeOf[kind].of(value)),
        ...[...mirror.cachedInBrief(kind).values()].flatMap(({ value }) =>
          value.borrowed.length === 0 ? [] : [value],
        ),
      ]),
      connected: connectedRanges(sockets.rtnetlink).map(({ cidr }) => cidr),
      passwordOf: (reference) => readPassword(settings.bgpPasswordDirectory, reference),
    }),
  });
  return {
    report: () => speaker.report(),
    checks: async () => {
      const report = await speaker.report();
      return [...offChecks(mirror, report), ...bgpChecks(report)];
    },
    run: async () => {
      const answering = keep('BGP status', (work) =>
        keepNodeStatuses(
          { node, mirror, writer, facts: (...asked) => speaker.facts(...asked), now: common.now },
          work,
          signal,
        ),
      );
      await keep('BGP', async (work) => {
        const unsubscribe = mirror.subscribe(({ changes, briefs }: EntryChanges) => {
          const isLent = briefs.some(
            ({ kind, brief }) =>
              kind !== 'WorkloadEndpoint' && (brief === undefined || brief.borrowed.length > 0),
          );
          if (isLent || changes.some(({ kind }) => kinds.has(kind))) speaker.changed();
        });
        const forget = agent.onAddresses(() => speaker.changed());
        try {
          await speaker.run(work, () => mirror.inSync, signal);
        } finally {
          unsubscribe();
          forget();
        }
      });
      await answering;
    },
  };
}

function valuesOf<K extends EntryKind>(
  mirror: Mirror,
  kind: K,
): ReadonlyMap<string, EntryValue<K>> {
  return new Map([...mirror.cached(kind)].map(([id, { value }]) => [id, value]));
}

/** While BGP is off, names the resources that wait for it. */
function offChecks(mirror: Mirror, { isOn, why = 'BGP is off' }: BgpReport): readonly Check[] {
  if (isOn || !mirror.inSync) return [];
  const waiting = (['BGPConfiguration', 'BGPPeer', 'BGPFilter'] as const).filter(
    (kind) => mirror.cached(kind).size > 0,
  );
  if (waiting.length === 0) return [];
  return [{ name: 'BGP', ok: true, detail: `${waiting.join(', ')} have no effect: ${why}` }];
}

interface SpeakerDeps {
  readonly common: Common;
  readonly bird: Bird;
  readonly agent: AgentComponent;
  readonly isWanted: () => boolean;
  /** Costs a look at all nodes and at the host's routes: only for a host with BGP. */
  readonly inputs: () => BgpInputs;
}

/** BIRD and what it is to do. */
class Speaker {
  readonly #deps: SpeakerDeps;
  #isChanged = true;
  #wake: () => void = () => undefined;
  #model: BgpModel | undefined;
  /** The model that BIRD has. */
  #applied: BgpModel | undefined;
  readonly #changes = new SessionChanges();
  #ended: BgpReport['ended'];
  #failure: string | undefined;

  constructor(deps: SpeakerDeps) {
    this.#deps = deps;
  }

  changed(): void {
    this.#isChanged = true;
    this.#wake();
  }

  async run(work: Work, isReady: () => boolean, signal: AbortSignal): Promise<void> {
    let rereadAt = 0;
    let delays = backoffMs(500, 30_000);
    while (!signal.aborted) {
      if (performance.now() > rereadAt) this.#isChanged = true;
      try {
        const isInSync = isReady();
        if (isInSync) {
          if (this.#isChanged) {
            await pause(coalesceMs, signal);
            rereadAt = performance.now() + rereadMs;
          }
          await this.#turn(signal);
          this.#failure = undefined;
          work.succeeded();
          delays = backoffMs(500, 30_000);
        }
        // What has changed meanwhile comes in the next turn, at once.
        if (!isInSync || !this.#isChanged) await this.#woken(pollMs, signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#failure = describe(error);
        this.#isChanged = true;
        this.#deps.agent.agent.setBgp(bgpIsOff);
        work.failed(error);
        await this.#woken(delays.next().value, signal);
      }
    }
  }

  /** Returns the state of now. */
  async report(): Promise<BgpReport> {
    const { bird, common } = this.#deps;
    if (this.#model === undefined) {
      const why = this.#failure ?? this.#whyOff();
      return {
        isOn: false,
        why,
        node: common.node,
        routerId: '',
        isDraining: false,
        sessions: [],
        problems: [],
      };
    }
    const states = await bird.states(common.signal);
    const why = this.#failure ?? (states === undefined ? 'BIRD does not run' : undefined);
    const report = reportOf(this.#model, states, why);
    return this.#ended === undefined ? report : { ...report, ended: this.#ended };
  }

  /** Returns what a CalicoNodeStatus may ask for. */
  async facts(withRoutes: boolean, signal: AbortSignal): Promise<BirdFacts> {
    const { bird } = this.#deps;
    const sessions = this.#model?.sessions ?? [];
    const routesOf = async (table: string) => {
      const lines = withRoutes ? await bird.ask(`show route table ${table}`, signal) : undefined;
      return routeStatuses(lines ?? [], sessions);
    };
    return {
      daemon: daemonStatus(await bird.ask('show status', signal)),
      sessions,
      states: (await bird.states(signal)) ?? [],
      routes: { 4: await routesOf('master4'), 6: await routesOf('master6') },
    };
  }

  #whyOff(): string {
    return this.#deps.common.settings.bgp === 'off'
      ? 'BGP is off on this host by the setting CALICO_BGP'
      : 'BGP is off; enable it: calico-cnm bgp enable';
  }

  async #turn(signal: AbortSignal): Promise<void> {
    const { bird } = this.#deps;
    if (this.#isChanged) {
      this.#isChanged = false;
      if (!this.#deps.isWanted()) {
        await this.#stop(signal);
        return;
      }
      this.#model = bgpModel(this.#deps.inputs());
    }
    if (this.#model === undefined) return;
    await this.#apply(this.#model, signal);
    const states = await bird.states(signal);
    if (states === undefined) return;
    this.#deps.agent.agent.setBgp(this.#changes.stateOf(this.#model, states, Date.now()));
  }

  async #apply(model: BgpModel, signal: AbortSignal): Promise<void> {
    const { bird, common } = this.#deps;
    if (model !== this.#applied) {
      const peers = model.sessions.map(({ peer }) => peer);
      this.#deps.agent.agent.setBgpListener({ port: model.listenPort, peers });
    }
    const ended = this.#applied === undefined ? [] : endedSessions(this.#applied, model);
    if (ended.length > 0) await this.#bridge(ended, signal);
    const applied = await bird.apply(this.#text(model, true), signal);
    this.#applied = model;
    if (applied === 'unchanged') return;
    const sessions = model.sessions.length;
    common.log.info(`BIRD ${applied}`, { sessions, routerId: model.routerId });
  }

  #text(model: BgpModel, programsKernel: boolean): string {
    const { bird, common } = this.#deps;
    return configText(model, {
      logFile: bird.logFile,
      foreignProtocols: [ourProtocol, prefixProtocol, blockProtocol],
      families: common.families,
      programsKernel,
    });
  }

  /**
   * Sessions end by a change of resources, on this host and on others, which have it at about the same time: until the
   * new ones are established the daemon's own routes are used, on all hosts before the first session ends.
   */
  async #bridge(ended: readonly BgpSession[], signal: AbortSignal): Promise<void> {
    const { agent, common } = this.#deps;
    const peers = ended.map(({ peer }) => peer);
    common.log.info('BGP sessions end by a change', {
      sessions: ended.length,
      peers: peers.slice(0, 5),
    });
    this.#ended = { at: common.now().toISOString(), peers };
    agent.agent.setBgp(bgpIsOff);
    await agent.agent.nextRound(signal);
    await pause(bridgeMs, signal);
    this.#changes.changed(Date.now());
  }

  /** First the daemon's own routes, then BIRD's end. */
  async #stop(signal: AbortSignal): Promise<void> {
    const { bird, agent, common } = this.#deps;
    agent.agent.setBgp(bgpIsOff);
    this.#model = undefined;
    this.#applied = undefined;
    if (!bird.hasRun) return;
    await agent.agent.nextRound(signal);
    agent.agent.setBgpListener(undefined);
    await bird.stop(this.#text(bgpModel(this.#deps.inputs()), false), signal);
    common.log.info('BIRD stopped: BGP is off');
  }

  async #woken(ms: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    await Promise.race([promise, pause(ms, signal)]);
    this.#wake = () => undefined;
  }
}
