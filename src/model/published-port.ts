import { anyAddress4, familyOf, tryParseAddress, type IpAddress } from '../ip/address.ts';
import { portProtocol, type PortProtocol } from '../ip/port-protocol.ts';
import {
  endpointAddresses,
  annotation,
  withAnnotation,
  type WorkloadEndpoint,
} from './kinds/workload-endpoint.ts';

/** One port of the host that is published for a port of the container. */
export interface PublishedPort {
  readonly protocol: PortProtocol;
  /** The unspecified address of a family means all addresses of the host. */
  readonly hostIp: IpAddress;
  readonly hostPort: number;
  /** The container's port. */
  readonly port: number;
}

/** Consecutive ports of the host, published for as many consecutive ports of the container. */
interface PortRun {
  readonly first: PublishedPort;
  readonly count: number;
}

/** Runs of at least this length are stored as one: ten thousand single ports exceed the request limit of etcd. */
const longRun = 16;

/** Returns the published ports of an endpoint; ports without a host port, and invalid ones, are skipped. */
export function publishedPorts(endpoint: WorkloadEndpoint | undefined): readonly PublishedPort[] {
  const single = (endpoint?.spec.ports ?? []).flatMap(
    ({ protocol, port, hostPort = 0, hostIP }): readonly PublishedPort[] => {
      const known = portProtocol(protocol);
      const hostIp = hostIP === undefined || hostIP === '' ? anyAddress4 : tryParseAddress(hostIP);
      if (known === undefined || hostIp === undefined || !isPort(hostPort) || !isPort(port))
        return [];
      return [{ protocol: known, hostIp, hostPort, port }];
    },
  );
  const runs = endpoint && annotation(endpoint, 'publishedRanges');
  if (runs === undefined) return single;
  return [...single, ...runs.split(',').flatMap(parseRun).flatMap(portsOfRun)];
}

/**
 * Returns the endpoint with exactly these published ports, in Calico's form, except long runs, which are stored in an
 * annotation as `UDP 0.0.0.0 10000-20000 10000`: the last is the container's port of the first. Other named ports
 * stay.
 */
export function withPublishedPorts(
  endpoint: WorkloadEndpoint,
  ports: readonly PublishedPort[],
): WorkloadEndpoint {
  const { ports: before = [], ...spec } = endpoint.spec;
  const runs = runsOf(ports);
  const all = [
    ...before.filter(({ hostPort = 0 }) => hostPort === 0),
    ...runs
      .filter(({ count }) => count < longRun)
      .flatMap(portsOfRun)
      .map(({ protocol, hostIp, hostPort, port }) => ({
        name: `${protocol.toLowerCase()}-${hostPort}`,
        protocol,
        port,
        hostPort,
        hostIP: hostIp,
      })),
  ];
  const changed = { ...endpoint, spec: all.length === 0 ? spec : { ...spec, ports: all } };
  const long = runs.filter(({ count }) => count >= longRun).map(formatRun);
  return withAnnotation(changed, 'publishedRanges', long.length === 0 ? undefined : long.join(','));
}

/** Splits a list into runs, the longest possible; every port is in exactly one of them. */
function runsOf(ports: readonly PublishedPort[]): readonly PortRun[] {
  const runs: { readonly first: PublishedPort; count: number }[] = [];
  /** The run that a port would extend. */
  const ending = new Map<string, (typeof runs)[number]>();
  for (const one of ports) {
    const key = ({ protocol, hostIp, hostPort, port }: PublishedPort, by = 0) =>
      `${protocol} ${hostIp} ${hostPort + by} ${port + by}`;
    const run = ending.get(key(one)) ?? { first: one, count: 0 };
    if (run.count === 0) runs.push(run);
    run.count++;
    ending.delete(key(one));
    ending.set(key(one, 1), run);
  }
  return runs;
}

function portsOfRun({ first, count }: PortRun): readonly PublishedPort[] {
  const { hostPort, port } = first;
  return Array.from({ length: count }, (_, index) => ({
    ...first,
    hostPort: hostPort + index,
    port: port + index,
  }));
}

function formatRun({ first, count }: PortRun): string {
  const { protocol, hostIp, hostPort, port } = first;
  return `${protocol} ${hostIp} ${hostPort}-${hostPort + count - 1} ${port}`;
}

/** Parses a run as a list of one; empty if the text is not a run. */
function parseRun(text: string): readonly PortRun[] {
  const [, protocol = '', host = '', from, to, target] =
    /^(\w+) (\S+) (\d+)-(\d+) (\d+)$/.exec(text) ?? [];
  const [hostPort, last, port] = [Number(from), Number(to), Number(target)];
  const [known, hostIp] = [portProtocol(protocol), tryParseAddress(host)];
  const count = last - hostPort + 1;
  if (known === undefined || hostIp === undefined || !(count > 0)) return [];
  if (!isPort(hostPort) || !isPort(last) || !isPort(port) || !isPort(port + count - 1)) return [];
  return [{ first: { protocol: known, hostIp, hostPort, port }, count }];
}

function isPort(number: number): boolean {
  return number > 0 && number < 65_536;
}

/**
 * Reports whether published ports are allowed without a matching rule: unless their network leaves it to the rules.
 */
export function admitsPublished(endpoint: WorkloadEndpoint): boolean {
  return annotation(endpoint, 'published') !== 'policy';
}

/**
 * Returns the endpoint's address behind a port published on an address; any address will do for `::1`, which is
 * relayed.
 */
export function targetAddress(
  endpoint: WorkloadEndpoint,
  hostIp: IpAddress,
): IpAddress | undefined {
  const addresses = endpointAddresses(endpoint);
  const same = addresses.find((address) => familyOf(address) === familyOf(hostIp));
  return same ?? (hostIp === '::1' ? addresses[0] : undefined);
}
