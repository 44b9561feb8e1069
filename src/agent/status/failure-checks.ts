import type { Mirror } from '../../cache/mirror.ts';
import type { ApplyFailure } from '../../dataplane/apply-failure.ts';
import { hostCidr, splitCidr, type Cidr } from '../../ip/cidr.ts';
import { endpointTitle } from '../../model/kinds/workload-endpoint.ts';
import type { Check } from '../../telemetry/status-report.ts';

const maxShown = 20;

/** Returns a status check for each apply failure, with the objects that require the failed change. */
export function failureChecks(failures: readonly ApplyFailure[], mirror: Mirror): Check[] {
  const rest = failures.length - maxShown;
  const remedy =
    'Change or delete the object. The daemon retries automatically; everything else is programmed.';
  return [
    ...failures.slice(0, maxShown).map(({ what, why, net }) => {
      const objects = net === undefined ? [] : objectsWith(mirror, net);
      const of = objects.length === 0 ? '' : ` (${objects.join(', ')})`;
      return { name: 'dataplane', ok: false, detail: `${what}${of}: ${why}`, remedy };
    }),
    ...(rest > 0 ? [{ name: 'dataplane', ok: false, detail: `and ${rest} more like these` }] : []),
  ];
}

/** Returns the objects with this network. Sets contain two halves in place of a network of all addresses. */
function objectsWith(mirror: Mirror, net: Cidr): readonly string[] {
  if (!mirror.inSync) return [];
  const { prefixLength } = splitCidr(net);
  const matches = (one: Cidr) =>
    one === net ||
    (prefixLength === 1 && one.endsWith('/0') && one.includes(':') === net.includes(':'));
  return [
    ...[...mirror.list('IPPool')].flatMap(([name, { value }]) =>
      matches(value.spec.cidr) ? [`IP pool ${name}`] : [],
    ),
    ...[...mirror.briefs('WorkloadEndpoint')].flatMap(([id, { nets, prefixes, node }]) =>
      [...nets, ...prefixes].some(matches) ? [`${titleOf(mirror, id)} on ${node}`] : [],
    ),
    ...[...mirror.list('DockerNetwork').values()].flatMap(({ value: { name, id, ...network } }) =>
      [network.nextHop4, network.nextHop6].some((hop) => hop !== undefined && hostCidr(hop) === net)
        ? [`network ${name ?? id.slice(0, 12)}`]
        : [],
    ),
  ].slice(0, maxShown);
}

function titleOf(mirror: Mirror, id: string): string {
  const endpoint = mirror.cached('WorkloadEndpoint').get(id)?.value;
  const title =
    endpoint === undefined
      ? `endpoint ${id.slice(id.lastIndexOf('-') + 1).slice(0, 12)}`
      : endpointTitle(endpoint);
  return title.startsWith('endpoint ') ? title : `container ${title}`;
}
