import type { LiveMirror } from '../../cache/live-mirror.ts';
import type { LocalEndpoints } from '../../driver/endpoints/local-endpoints.ts';
import type { IpFamily } from '../../ip/address.ts';
import { publishedPorts } from '../../model/published-port.ts';
import { endpointTitle } from '../../model/kinds/workload-endpoint.ts';
import { protocolNumber } from '../../profiles/compile/compiled-rule.ts';
import { policyTitle } from '../../profiles/compile/compiled-policy.ts';
import type { PolicyEngine } from '../../profiles/policy-engine.ts';
import type { Check } from '../../telemetry/status-report.ts';
import { named } from './named.ts';

/**
 * Reports policies without connection tracking that allow connections to published ports of this host: without tracking
 * there is no NAT, so that such connections do not reach the container.
 */
export function untrackedPortChecks(
  {
    mirror,
    local,
    families,
  }: {
    readonly mirror: LiveMirror;
    readonly local: LocalEndpoints;
    readonly families: readonly IpFamily[];
  },
  engine: Pick<PolicyEngine, 'hostEndpoints' | 'hostTiersOf' | 'compiled'>,
): readonly Check[] {
  const [family] = families;
  if (!mirror.inSync || family === undefined) return [];
  const policies = engine
    .hostEndpoints()
    .flatMap((id) => engine.hostTiersOf(id).untracked.flatMap(({ ingress }) => ingress))
    .map((id) => engine.compiled(family, id));
  if (policies.length === 0) return [];
  const ports = local.all().flatMap((id) => {
    const endpoint = mirror.get('WorkloadEndpoint', id)?.value;
    if (endpoint === undefined) return [];
    return publishedPorts(endpoint).map(({ protocol, hostPort }) => ({
      protocol: protocolNumber(protocol),
      hostPort,
      title: `${hostPort} of ${endpointTitle(endpoint)}`,
    }));
  });
  return [...new Map(policies.map((policy) => [policyTitle(policy.id), policy]))].flatMap(
    ([name, { ingress }]): readonly Check[] => {
      const allowed = ports.filter(({ protocol, hostPort }) =>
        ingress.some(
          ({ action, protocol: ofRule, destination }) =>
            action === 'Allow' &&
            (ofRule === undefined || ofRule === protocol) &&
            (destination.ports.length === 0 ||
              destination.ports.some(({ first, last }) => first <= hostPort && hostPort <= last)),
        ),
      );
      if (allowed.length === 0) return [];
      const titles = allowed.map(({ title }) => title);
      return [
        {
          name,
          ok: false,
          detail: `it allows connections to ${named('published port', titles)} without connection tracking, so that they do not reach the container`,
          remedy: 'Use preDNAT instead of doNotTrack for published ports.',
        },
      ];
    },
  );
}
