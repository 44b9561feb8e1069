import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { familyOf, tryParseAddress } from '../../ip/address.ts';
import { parsePeerAddress } from '../../model/bgp.ts';
import { bgpAnnotation, type BgpConfiguration } from '../../model/kinds/bgp-configuration.ts';
import { bgpPeerType, type BgpPeer } from '../../model/kinds/bgp-peer.ts';
import { drainAnnotation, isDraining, type Node } from '../../model/kinds/node.ts';
import type { Stamp } from '../../model/stamp.ts';
import { applyResource } from '../resources/resource-plans.ts';

/** Plans of the `bgp` commands; each returns what it has done, as a sentence. */

/** Label of nodes that are route reflectors, which the BGPPeer of the same name selects. */
const reflectorLabel = 'docker.projectcalico.org/route-reflector';
const reflectorPeer = 'route-reflectors';
const apiVersion = 'projectcalico.org/v3';

function configurationOf(draft: Draft, stamp: Stamp): BgpConfiguration {
  return (
    draft.get('BGPConfiguration', 'default') ??
    stamp({ kind: 'BGPConfiguration', apiVersion, metadata: { name: 'default' }, spec: {} })
  );
}

export function setEnabled(draft: Draft, stamp: Stamp, isOn: boolean): string {
  const stored = configurationOf(draft, stamp);
  const { [bgpAnnotation]: _, ...others } = stored.metadata.annotations ?? {};
  const annotations = isOn ? { ...others, [bgpAnnotation]: 'on' } : others;
  const metadata = { ...stored.metadata, annotations };
  draft.put('BGPConfiguration', 'default', { ...stored, metadata });
  return isOn ? 'BGP enabled; see calico-cnm bgp status' : 'BGP disabled';
}

export function setMesh(draft: Draft, stamp: Stamp, state: string): string {
  if (state !== 'on' && state !== 'off') {
    throw new CalicoError('cli/bad-argument', { what: 'STATE', why: 'must be on or off' });
  }
  const stored = configurationOf(draft, stamp);
  const spec = { ...stored.spec, nodeToNodeMeshEnabled: state === 'on' };
  draft.put('BGPConfiguration', 'default', { ...stored, spec });
  return `Node-to-node mesh ${state}`;
}

export function addReflector(
  draft: Draft,
  stamp: Stamp,
  { name, clusterId }: { readonly name: string; readonly clusterId: string },
): string {
  const id = tryParseAddress(clusterId);
  if (id === undefined || familyOf(id) !== 4) {
    const why = `"${clusterId}" is not an IPv4 address`;
    throw new CalicoError('cli/bad-argument', { what: '--cluster-id', why });
  }
  const node = nodeOf(draft, name);
  draft.put('Node', name, {
    ...node,
    metadata: { ...node.metadata, labels: { ...node.metadata.labels, [reflectorLabel]: '' } },
    spec: { ...node.spec, bgp: { ...node.spec.bgp, routeReflectorClusterID: clusterId } },
  });
  if (draft.get('BGPPeer', reflectorPeer) === undefined) {
    const spec: BgpPeer['spec'] = {
      nodeSelector: 'all()',
      peerSelector: `has(${reflectorLabel})`,
    };
    const metadata = { name: reflectorPeer };
    draft.put('BGPPeer', reflectorPeer, stamp({ kind: 'BGPPeer', apiVersion, metadata, spec }));
  }
  return `Node ${name} is a route reflector of cluster ${clusterId}`;
}

export function removeReflector(draft: Draft, name: string): string {
  const node = nodeOf(draft, name);
  const { [reflectorLabel]: _, ...labels } = node.metadata.labels ?? {};
  const { routeReflectorClusterID: __, ...bgp } = node.spec.bgp ?? {};
  draft.put('Node', name, {
    ...node,
    metadata: { ...node.metadata, labels },
    spec: { ...node.spec, bgp },
  });
  return `Node ${name} is no route reflector`;
}

function nodeOf(draft: Draft, name: string): Node {
  const node = draft.get('Node', name);
  if (node === undefined) throw new CalicoError('datastore/not-found', { kind: 'Node', name });
  return node;
}

/** A BGP session of hosts with a router. */
export interface PeerRequest {
  /** With or without a port. */
  readonly address: string;
  /** The name of the BGPPeer; by default from the address. */
  readonly name?: string;
  readonly as: string;
  /** At most one of them; none: all hosts. */
  readonly node?: string;
  readonly nodeSelector?: string;
  /** `NAME/KEY` of a password file. */
  readonly password?: string;
}

/** Throws `datastore/exists`, `cli/bad-argument` and `model/invalid`. */
export function addPeer(draft: Draft, stamp: Stamp, request: PeerRequest): string {
  const { address, as, node, nodeSelector, password } = request;
  if (parsePeerAddress(address) === undefined) {
    const why = `"${address}" is not an IP address, with or without a port`;
    throw new CalicoError('cli/bad-argument', { what: 'ADDRESS', why });
  }
  const name = request.name ?? address.replaceAll(/[^0-9a-f]+/g, '-').replaceAll(/^-|-$/g, '');
  if (draft.get('BGPPeer', name) !== undefined) {
    throw new CalicoError('datastore/exists', { kind: 'BGPPeer', name });
  }
  if (node !== undefined) nodeOf(draft, node);
  const spec = {
    peerIP: address,
    asNumber: as,
    ...(node === undefined ? {} : { node }),
    ...(nodeSelector === undefined ? {} : { nodeSelector }),
    ...(password === undefined ? {} : { password: passwordOf(password) }),
  };
  const parsed = bgpPeerType.schema.safeParse({
    kind: 'BGPPeer',
    apiVersion,
    metadata: { name },
    spec,
  });
  if (!parsed.success) {
    const why = parsed.error.issues[0]?.message ?? '';
    throw new CalicoError('cli/bad-argument', { what: '--as', why });
  }
  applyResource(draft, parsed.data, { stamp, versionOf: () => undefined });
  const hosts = node === undefined ? 'hosts' : `host ${node}`;
  return `BGPPeer ${name} added: sessions of ${hosts} with ${address}; see calico-cnm bgp status`;
}

/** Deletes the BGPPeer of a name, or of an address. Throws `datastore/not-found`. */
export function removePeer(draft: Draft, which: string): string {
  const names = [...draft.entries('BGPPeer')]
    .filter(([name, { spec }]) => name === which || spec.peerIP === which)
    .map(([name]) => name);
  const [name] = names.includes(which) ? [which] : names;
  if (name === undefined) {
    throw new CalicoError('datastore/not-found', { kind: 'BGPPeer', name: which });
  }
  draft.remove('BGPPeer', name);
  return `BGPPeer ${name} removed`;
}

/** Makes the routes of a node the last choice of its peers, or normal ones again. Throws `datastore/not-found`. */
export function setDraining(draft: Draft, name: string, isOn: boolean): string {
  const node = nodeOf(draft, name);
  const { [drainAnnotation]: _, ...others } = node.metadata.annotations ?? {};
  const annotations = isOn ? { ...others, [drainAnnotation]: 'on' } : others;
  if (isOn !== isDraining(node)) {
    draft.put('Node', name, { ...node, metadata: { ...node.metadata, annotations } });
  }
  return isOn
    ? `Node ${name} is being drained: its peers prefer other routes; undo it: calico-cnm bgp undrain ${name}`
    : `Node ${name} is not drained any more`;
}

function passwordOf(text: string): BgpPeer['spec']['password'] {
  const [name, key, ...more] = text.split('/');
  if (name === undefined || name === '' || key === undefined || key === '' || more.length > 0) {
    const why = `"${text}" is not NAME/KEY of a file below the password folder`;
    throw new CalicoError('cli/bad-argument', { what: '--password', why });
  }
  return { secretKeyRef: { name, key } };
}
