import { familyOf } from '../../ip/address.ts';
import type { Action, Match, Ports, Rule } from './rule.ts';
import { fromQuotedDestination, ofVni } from './packet-programs.ts';

/** Rules in the language of iptables-restore, spelled as Calico spells them. */

type Kinds<Of extends { readonly kind: string }> = {
  readonly [K in Of['kind']]: (part: Extract<Of, { readonly kind: K }>) => string;
};

const matches: Kinds<Match> = {
  inInterface: ({ name, negated }) => `${not(negated)}--in-interface ${name}`,
  outInterface: ({ name }) => `--out-interface ${name}`,
  protocol: ({ protocol, negated }) => `${not(negated)}-p ${protocol}`,
  sourceNet: ({ net, negated }) => `${not(negated)}--source ${net}`,
  destinationNet: ({ net, negated }) => `${not(negated)}--destination ${net}`,
  sourceSet: ({ set, negated }) => setMatch(set, 'src', negated),
  destinationSet: ({ set, negated }) => setMatch(set, 'dst', negated),
  sourcePortSet: ({ set, negated }) => setMatch(set, 'src,src', negated),
  destinationPortSet: ({ set, negated }) => setMatch(set, 'dst,dst', negated),
  sourceAndInInterfaceSet: ({ set, negated, uncounted }) =>
    setMatch(set, 'src,src', negated) + (uncounted === true ? ' ! --update-counters' : ''),
  sourceAndOutInterfaceSet: ({ set, uncounted }) =>
    setMatch(set, 'src,dst', false) + (uncounted === true ? ' ! --update-counters' : ''),
  destinationAndInInterfaceSet: ({ set, uncounted }) =>
    setMatch(set, 'dst,src', false) + (uncounted === true ? ' ! --update-counters' : ''),
  destinationAndOutInterfaceSet: ({ set, negated, uncounted }) =>
    setMatch(set, 'dst,dst', negated) + (uncounted === true ? ' ! --update-counters' : ''),
  sourcePorts: ({ ports, negated }) =>
    `-m multiport ${not(negated)}--source-ports ${portList(ports)}`,
  destinationPorts: ({ ports, negated }) =>
    `-m multiport ${not(negated)}--destination-ports ${portList(ports)}`,
  sourcePort: ({ protocol, port }) => `-m ${protocol} --source-port ${port}`,
  destinationPort: ({ protocol, port }) => `-m ${protocol} --destination-port ${port}`,
  icmp: ({ family, type, code, negated }) => {
    const [module, option] = family === 4 ? ['icmp', '--icmp-type'] : ['icmp6', '--icmpv6-type'];
    return `-m ${module} ${not(negated)}${option} ${type}${code === undefined ? '' : `/${code}`}`;
  },
  markSet: ({ bits }) => `-m mark --mark ${hex(bits)}/${hex(bits)}`,
  markClear: ({ bits }) => `-m mark --mark 0/${hex(bits)}`,
  connectionMarkSet: ({ bits }) => `-m connmark --mark ${hex(bits)}/${hex(bits)}`,
  connectionState: ({ states }) => `-m conntrack --ctstate ${states.join(',')}`,
  fromQuotedDestination: ({ family }) => `-m bpf --bytecode "${fromQuotedDestination(family)}"`,
  vni: ({ family, vni }) => `-m bpf --bytecode "${ofVni(family, vni)}"`,
  sourceIsLocal: ({ negated }) => `-m addrtype ${not(negated)}--src-type LOCAL`,
  destinationIsLocal: ({ negated }) => `-m addrtype ${not(negated)}--dst-type LOCAL`,
};

const interfaceSides = { in: 'src', out: 'dst' } as const;

const actions: Kinds<Action> = {
  accept: () => '--jump ACCEPT',
  drop: () => '--jump DROP',
  reject: () => '--jump REJECT',
  return: () => '--jump RETURN',
  jump: ({ chain }) => `--jump ${chain}`,
  goto: ({ chain }) => `--goto ${chain}`,
  setMark: ({ bits }) => `--jump MARK --set-mark ${hex(bits)}/${hex(bits)}`,
  clearMark: ({ bits }) => `--jump MARK --set-mark 0/${hex(bits)}`,
  setConnectionMark: ({ bits }) => `--jump CONNMARK --set-xmark ${hex(bits)}/${hex(bits)}`,
  clearConnectionMark: ({ bits }) => `--jump CONNMARK --set-xmark 0x0/${hex(bits)}`,
  log: ({ prefix }) => `--jump LOG --log-prefix "${safeText(prefix, 28)}" --log-level 5`,
  destinationNat: ({ address, port }) =>
    `--jump DNAT --to-destination ${familyOf(address) === 4 ? address : `[${address}]`}:${port}`,
  masquerade: () => '--jump MASQUERADE --random-fully',
  notrack: () => '--jump NOTRACK',
  countSource: ({ set, interface: of }) => `--jump SET --add-set ${set} src,${interfaceSides[of]}`,
  countDestination: ({ set, interface: of }) =>
    `--jump SET --add-set ${set} dst,${interfaceSides[of]}`,
};

/**
 * Returns the rule after the chain's name: criteria, comment and action, separated by blanks. The comment begins with
 * `mark`. It is a match as well, which the kernel evaluates: there is only one, and it costs nothing for packets that the
 * criteria before it do not match.
 */
export function renderRule({ matches: criteria, action, comment }: Rule, mark?: string): string {
  const text = comment === undefined ? undefined : safeText(comment, 230);
  const said = [mark, text].filter((part) => part !== undefined);
  return [
    ...criteria.map(renderMatch),
    ...(said.length === 0 ? [] : [`-m comment --comment "${said.join(' ')}"`]),
    renderAction(action),
  ].join(' ');
}

function renderMatch<K extends Match['kind']>(match: Extract<Match, { readonly kind: K }>): string {
  const render: (part: typeof match) => string = renderers(matches, match.kind);
  return render(match);
}

function renderAction<K extends Action['kind']>(
  action: Extract<Action, { readonly kind: K }>,
): string {
  const render: (part: typeof action) => string = renderers(actions, action.kind);
  return render(action);
}

function renderers<Of extends { readonly kind: string }, K extends Of['kind']>(
  table: Kinds<Of>,
  kind: K,
): (part: Extract<Of, { readonly kind: K }>) => string {
  return table[kind];
}

function not(negated: boolean | undefined): string {
  return negated === true ? '! ' : '';
}

function setMatch(set: string, direction: string, negated: boolean | undefined): string {
  return `-m set ${not(negated)}--match-set ${set} ${direction}`;
}

function portList(ports: readonly Ports[]): string {
  return ports
    .map(({ first, last }) => (first === last ? String(first) : `${first}:${last}`))
    .join(',');
}

function hex(bits: number): string {
  return `0x${(bits >>> 0).toString(16)}`;
}

/** iptables-restore reads quoted text; characters that could end or escape it become `_`. */
function safeText(text: string, maxLength: number): string {
  return text.replaceAll(/[^A-Za-z0-9 .,:;/@%=+_()[\]#!*-]/g, '_').slice(0, maxLength);
}
