import { Refusals, type ApplyFailure } from '../dataplane/apply-failure.ts';
import type { Mirror } from '../cache/mirror.ts';
import { hostCidr, splitCidr, type Cidr } from '../ip/cidr.ts';
import { endpointTitle } from '../model/kinds/workload-endpoint.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Check } from '../telemetry/status-report.ts';

/** What of the desired state the kernel does not hold; the log tells of each thing once, and when it is mended. */
export class ApplyFailures {
  readonly #log: Logger;
  #present: ReadonlyMap<string, ApplyFailure> = new Map();
  /** Steps of a round that failed. */
  readonly #steps = new Refusals<string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Does one step of a round; that it fails keeps nobody from the others. */
  attempt(what: string, step: () => void): void {
    try {
      step();
      this.#steps.delete(what);
    } catch (error) {
      this.#steps.add(what, { what }, error);
    }
  }

  /** What the drivers say at the end of a round. */
  finish(failures: readonly ApplyFailure[]): void {
    const now = new Map([...failures, ...this.#steps.failures()].map((one) => [one.what, one]));
    for (const [key, { what, why }] of now) {
      if (this.#present.get(key)?.why !== why) {
        this.#log.warn('the kernel does not hold what is wanted; it is tried again', { what, why });
      }
    }
    for (const what of this.#present.keys()) {
      if (!now.has(what)) this.#log.info('the kernel holds again what is wanted', { what });
    }
    this.#present = now;
  }

  /** Whether a step that failed is to be tried again now. */
  get hasDue(): boolean {
    return this.#steps.hasDue;
  }

  all(): readonly ApplyFailure[] {
    return [...this.#present.values()];
  }

  /** What failed of one of the networks, as a sentence. */
  about(networks: readonly Cidr[]): string | undefined {
    const found = this.all().find(({ net }) => net !== undefined && networks.includes(net));
    return found === undefined ? undefined : `${found.what}: ${found.why}`;
  }
}

const shownAtMost = 20;

/** What `calico-cnm status` says of them, with the objects that want it. */
export function failureChecks(failures: readonly ApplyFailure[], mirror: Mirror): Check[] {
  const rest = failures.length - shownAtMost;
  const remedy = 'It is tried again by itself; everything else is in force. Change or delete it.';
  return [
    ...failures.slice(0, shownAtMost).map(({ what, why, net }) => {
      const objects = net === undefined ? [] : objectsWith(mirror, net);
      const of = objects.length === 0 ? '' : ` (${objects.join(', ')})`;
      return { name: 'kernel', ok: false, detail: `${what}${of}: ${why}`, remedy };
    }),
    ...(rest > 0 ? [{ name: 'kernel', ok: false, detail: `and ${rest} more like these` }] : []),
  ];
}

/** The objects whose network it is; a set holds two halves instead of a network of all addresses. */
function objectsWith(mirror: Mirror, net: Cidr): readonly string[] {
  if (!mirror.inSync) return [];
  const { prefixLength } = splitCidr(net);
  const isIt = (one: Cidr) =>
    one === net ||
    (prefixLength === 1 && one.endsWith('/0') && one.includes(':') === net.includes(':'));
  return [
    ...[...mirror.list('IPPool')].flatMap(([name, { value }]) =>
      isIt(value.spec.cidr) ? [`IP pool ${name}`] : [],
    ),
    ...[...mirror.list('WorkloadEndpoint').values()].flatMap(({ value }) =>
      (value.spec.ipNetworks ?? []).some(isIt) ? [`${titleOf(value)} on ${value.spec.node}`] : [],
    ),
    ...[...mirror.list('DockerNetwork').values()].flatMap(({ value: { name, id, ...network } }) =>
      [network.nextHop4, network.nextHop6].some((hop) => hop !== undefined && hostCidr(hop) === net)
        ? [`network ${name ?? id.slice(0, 12)}`]
        : [],
    ),
  ].slice(0, shownAtMost);
}

function titleOf(endpoint: Parameters<typeof endpointTitle>[0]): string {
  const title = endpointTitle(endpoint);
  return title.startsWith('endpoint ') ? title : `container ${title}`;
}
