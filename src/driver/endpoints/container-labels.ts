import { isLabelKey, isLabelValue, isReservedLabel } from '../../model/fields.ts';
import { portProtocol, type PortProtocol } from '../../ip/port-protocol.ts';
import { builtInLabels } from './built-in-labels.ts';
import { isPolicyLabel } from './selection.ts';

/** Reports whether a label of a container, by its key, becomes a label of its endpoints: `CALICO_LABELS`. */
export type LabelFilter = (key: string) => boolean;

/** Returns the filter of a list of keys; a `*` at the end of a key is any text. */
export function labelFilter(patterns: readonly string[]): LabelFilter {
  const exact = new Set(patterns.filter((pattern) => !pattern.endsWith('*')));
  const prefixes = patterns.flatMap((one) => (one.endsWith('*') ? [one.slice(0, -1)] : []));
  return (key) => exact.has(key) || prefixes.some((prefix) => key.startsWith(prefix));
}

/**
 * Returns the labels of a container that its endpoints get under the same key. Labels that Calico's validation rejects
 * are skipped, because Felix would drop an endpoint with one of them; the problems name them.
 */
export function copiedLabels(
  labels: Readonly<Record<string, string>>,
  isTaken: LabelFilter,
): { readonly labels: Readonly<Record<string, string>>; readonly problems: readonly string[] } {
  const builtIn = new Set<string>(Object.values(builtInLabels));
  const taken = Object.entries(labels).filter(
    ([key]) => isTaken(key) && !isPolicyLabel(key) && !builtIn.has(key),
  );
  const reserved = taken.filter(([key]) => isReservedLabel(key));
  const legal = taken.filter(([key, value]) => isLabelKey(key) && isLabelValue(value));
  const illegal = taken.filter((one) => !legal.includes(one));
  const names = (of: typeof taken) => of.map(([key]) => `"${key}"`).join(', ');
  return {
    labels: Object.fromEntries(legal.filter((one) => !reserved.includes(one))),
    problems: [
      ...(reserved.length === 0 ? [] : [`reserved by Calico: ${names(reserved)}`]),
      ...(illegal.length === 0 ? [] : [`not legal in Calico: ${names(illegal)}`]),
    ],
  };
}

/** A port of a container with a name, by which rules may refer to it. */
export interface ContainerPort {
  readonly name: string;
  readonly protocol: PortProtocol;
  readonly port: number;
}

const portPrefix = 'org.projectcalico.port.';
const portName = /^(?=.*[a-zA-Z])[a-zA-Z0-9_.-]{1,128}$/;
/** Names of published ports in WorkloadEndpoints. */
const reservedName = /^(tcp|udp|sctp)-\d+$/i;

/** Returns the named ports of a container, from its labels `org.projectcalico.port.NAME=PORT[/PROTOCOL]`. */
export function portsOfLabels(labels: Readonly<Record<string, string>>): {
  readonly ports: readonly ContainerPort[];
  readonly problems: readonly string[];
} {
  const ports: ContainerPort[] = [];
  const problems: string[] = [];
  for (const [key, value] of Object.entries(labels)) {
    if (!key.startsWith(portPrefix)) continue;
    const name = key.slice(portPrefix.length);
    const [, number, word = 'TCP'] = /^(\d{1,5})(?:\/(\w+))?$/.exec(value.trim()) ?? [];
    const [port, protocol] = [Number(number), portProtocol(word)];
    const why = !portName.test(name)
      ? `"${name}" is not a port name`
      : reservedName.test(name)
        ? `"${name}" is a name of published ports`
        : protocol === undefined || !(port >= 1 && port <= 65_535)
          ? 'is not a port such as 80, 80/tcp or 53/udp'
          : undefined;
    if (why === undefined && protocol !== undefined) ports.push({ name, protocol, port });
    else problems.push(`label "${key}=${value}": ${why ?? ''}`);
  }
  return { ports, problems };
}
