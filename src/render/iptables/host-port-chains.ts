import { isUnspecified } from '../../ip/address.ts';
import { hostCidr } from '../../ip/cidr.ts';
import { protocolNumbers } from '../../ip/port-protocol.ts';
import { connectionMarkBits, type Chain, type Match, type Rule, type Substitute } from './rule.ts';
import type { PublishedPort } from '../../ruleset/published-port.ts';
import { hostPortsChain } from './names.ts';

/** Output of the chains of host ports. All calls are idempotent. */
export interface HostPortOutput {
  setChain(chain: Chain): void;
  removeChain(name: string): void;
}

const digitsOfPort = 4;

/**
 * The chains that look up the rule of a host port: a tree over protocol and port, one hexadecimal digit of the port
 * per level; a leaf chain contains sixteen ports. So a packet passes a few dozen rules at most, and a change writes
 * only the few chains on its path, however many ports there are.
 */
export class HostPortChains {
  readonly #output: HostPortOutput;
  /** The rules of each leaf chain by their text, so that one port can temporarily have two rules. */
  readonly #leaves = new Map<string, Map<string, PublishedPort>>();
  /** The next digits that have chains, by place in the tree. */
  readonly #branches = new Map<string, Set<string>>();

  constructor(output: HostPortOutput) {
    this.#output = output;
  }

  /** Writes the chains that exist without any port. */
  start(): void {
    this.#emit('');
  }

  /** Removes and adds rules; each changed chain is written once. */
  change(removed: readonly PublishedPort[], added: readonly PublishedPort[]): void {
    const changed = new Set<string>();
    for (const rule of removed) this.#remove(rule, changed);
    for (const rule of added) this.#add(rule, changed);
    for (const place of changed) this.#emit(place);
  }

  #add(rule: PublishedPort, changed: Set<string>): void {
    const place = leafOf(rule);
    const leaf = this.#leaves.get(place) ?? new Map<string, PublishedPort>();
    leaf.set(textOf(rule), rule);
    changed.add(place);
    if (leaf.size > 1) return;
    this.#leaves.set(place, leaf);
    for (let at = place; at !== ''; at = parentOf(at)) {
      const siblings = this.#branches.get(parentOf(at)) ?? new Set<string>();
      if (siblings.has(at)) return;
      siblings.add(at);
      this.#branches.set(parentOf(at), siblings);
      changed.add(parentOf(at));
    }
  }

  #remove(rule: PublishedPort, changed: Set<string>): void {
    const place = leafOf(rule);
    const leaf = this.#leaves.get(place);
    if (leaf?.delete(textOf(rule)) !== true) return;
    changed.add(place);
    if (leaf.size > 0) return;
    this.#leaves.delete(place);
    for (let at = place; at !== ''; at = parentOf(at)) {
      const siblings = this.#branches.get(parentOf(at));
      siblings?.delete(at);
      changed.add(parentOf(at));
      if (siblings !== undefined && siblings.size > 0) return;
      this.#branches.delete(parentOf(at));
    }
  }

  #emit(place: string): void {
    const leaf = this.#leaves.get(place);
    const branches = this.#branches.get(place);
    const name = chainName(place);
    if (leaf !== undefined) {
      const sorted = [...leaf].toSorted(([a], [b]) => (a < b ? -1 : 1));
      const rules = sorted.flatMap(([, rule]) => rulesOf(rule));
      this.#output.setChain({ name, rules, ifRefused: leadsNowhere(place) });
    } else if (branches !== undefined || place === '') {
      const sorted = [...(branches ?? [])].toSorted();
      const rules = sorted.map(branchRule);
      this.#output.setChain({ name, rules, ifRefused: leadsNowhere(place) });
    } else {
      this.#output.removeChain(name);
    }
  }
}

/** A place in the tree is the protocol's number, `-`, and the first digits of the port; the root is empty. */
function leafOf({ protocol, hostPort }: PublishedPort): string {
  const port = hostPort.toString(16).padStart(digitsOfPort, '0');
  return `${protocolNumbers[protocol]}-${port.slice(0, -1)}`;
}

function parentOf(place: string): string {
  return place.at(-2) === '-' ? '' : place.slice(0, -1);
}

function chainName(place: string): string {
  return place === '' ? hostPortsChain : `${hostPortsChain}-${place}`;
}

/** Without its chain a port is not published. */
function leadsNowhere(place: string): Substitute {
  const [, path = ''] = place.split('-');
  const ports = path === '' ? 'all' : `${portOf(path, '0')} to ${portOf(path, 'f')}`;
  return { what: `published ports, ${ports}`, rules: [] };
}

function portOf(path: string, filling: string): number {
  return Number.parseInt(path.padEnd(digitsOfPort, filling), 16);
}

function branchRule(place: string): Rule {
  const [protocol, path = ''] = place.split('-');
  return {
    matches: [
      { kind: 'protocol', protocol: Number(protocol) },
      { kind: 'destinationPorts', ports: [{ first: portOf(path, '0'), last: portOf(path, 'f') }] },
    ],
    action: { kind: 'goto', chain: chainName(place) },
  };
}

function rulesOf({ protocol, hostIp, hostPort, address, port, isAdmitted }: PublishedPort) {
  const matches: readonly Match[] = [
    ...(isUnspecified(hostIp) ? [] : [{ kind: 'destinationNet', net: hostCidr(hostIp) } as const]),
    { kind: 'protocol', protocol: protocolNumbers[protocol] },
    { kind: 'destinationPorts', ports: [{ first: hostPort, last: hostPort }] },
  ];
  const rules: readonly Rule[] = [
    ...(isAdmitted
      ? []
      : [
          {
            matches,
            action: { kind: 'clearConnectionMark', bits: connectionMarkBits.published },
          } as const,
        ]),
    { matches, action: { kind: 'destinationNat', address, port } },
  ];
  return rules;
}

/** Returns a key that sorts by port and distinguishes rules. */
function textOf({ hostIp, hostPort, address, port, isAdmitted }: PublishedPort): string {
  return `${hostPort} ${hostIp} ${address} ${port} ${isAdmitted}`;
}
