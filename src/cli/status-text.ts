import type { Check, StatusReport } from '../telemetry/status-report.ts';
import { isHealthy } from '../telemetry/status-report.ts';
import { printable } from '../errors/printable.ts';
import { defaultNamespace } from '../model/namespaces.ts';
import { formatCount, formatTable } from './table.ts';

/** Formats the output of `status`; empty lists are omitted. */
export function formatStatus(report: StatusReport): string {
  const headline = isHealthy(report) ? 'healthy' : 'degraded';
  return [
    `calico-cnm ${report.version} on ${report.node}, up since ${report.startedAt}: ${headline}\n`,
    report.checks.map(checkLine).join(''),
    section(
      'Networks',
      ['name', 'subnets', 'next hop', 'profiles', 'endpoints'],
      report.networks.map((network) => [
        network.name,
        network.ranges.join(', '),
        network.nextHops.join(' '),
        network.profiles.join(','),
        String(network.endpoints),
      ]),
    ),
    endpoints(report),
    section(
      'IP pools',
      ['name', 'cidr', 'free', 'total'],
      report.pools.map(({ name, cidr, free, total }) => [
        name,
        cidr,
        formatCount(BigInt(free), BigInt(total)),
        formatCount(BigInt(total), BigInt(total)),
      ]),
    ),
    section(
      'Dropped packets',
      ['container', 'rule', 'packets', 'bytes'],
      report.drops.map(({ container, rule, packets, bytes }) => [
        container,
        rule,
        String(packets),
        bytes === undefined ? '-' : String(bytes),
      ]),
    ),
    lastError(report),
  ]
    .filter((part) => part !== '')
    .join('\n');
}

/** Namespaces are shown if an endpoint is in another than that of networks that name none. */
function endpoints({ endpoints: all }: StatusReport): string {
  const hasNamespaces = all.some(
    ({ namespace }) => namespace !== '' && namespace !== defaultNamespace,
  );
  const ifAny = (cell: string) => (hasNamespaces ? [cell] : []);
  return section(
    'Endpoints',
    [...ifAny('namespace'), 'container', 'network', 'address', 'profiles', 'interface', 'state'],
    all.map((endpoint) => [
      ...ifAny(endpoint.namespace),
      endpoint.container,
      endpoint.network,
      endpoint.addresses.join(' '),
      endpoint.profiles.join(','),
      endpoint.interface,
      endpoint.state,
    ]),
  );
}

function checkLine({ name, ok, detail, remedy }: Check): string {
  const advice = ok || remedy === undefined ? '' : `\n            ${printable(remedy)}`;
  return `  ${ok ? 'ok  ' : 'FAIL'}  ${printable(`${name}: ${detail}`)}${advice}\n`;
}

function section(
  title: string,
  header: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  return rows.length === 0 ? '' : `${title}\n${formatTable(header, rows)}`;
}

function lastError({ lastError: error }: StatusReport): string {
  return error === undefined
    ? ''
    : `Last error, ${error.at}: ${printable(error.what)}\n  ${printable(error.remedy)}\n`;
}
