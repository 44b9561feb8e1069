import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isolationProfile, networkProfile } from '../../driver/networks/network-profile.ts';
import { parseAddress, type IpAddress } from '../../ip/address.ts';
import { profileTags } from '../../model/kinds/profile.ts';
import { judged } from '../../profiles/evaluate/evaluate.fixture.ts';
import { matches } from '../../model/selector/matches.ts';
import { evaluateStack, type Membership } from '../../profiles/evaluate/evaluate.ts';
import { compileProfile, type CompiledPolicy } from '../../profiles/compile/compiled-policy.ts';

const outside = parseAddress('198.51.100.1');
const isInternal = (network: string) => network.startsWith('inner');
const someNetworks = fc.uniqueArray(
  fc.constantFrom('inner1', 'inner2', 'inner3', 'outer1', 'outer2'),
  { minLength: 1 },
);

interface Endpoint {
  readonly network: string;
  readonly address: IpAddress;
  readonly profiles: readonly CompiledPolicy[];
  readonly labels: ReadonlyMap<string, string>;
}

/** The endpoints of a container; with `open` the Profiles of its networks allow everything inbound. */
function containerOn(names: readonly string[], index: number, open: boolean): readonly Endpoint[] {
  const ofNetwork = (name: string) => {
    const made = networkProfile(name);
    const own = open
      ? { ...made, spec: { ...made.spec, ingress: [{ action: 'Allow' as const }] } }
      : made;
    return [...(isInternal(name) ? [isolationProfile(name)] : []), own];
  };
  const shared = names.flatMap((name) => ofNetwork(name).flatMap(profileTags));
  return names.map((network, place) => {
    const profiles = ofNetwork(network);
    return {
      network,
      address: parseAddress(`10.0.${index}.${place + 1}`),
      profiles: profiles.map((one) => compileProfile(one.metadata.name, one)),
      labels: new Map([
        ...shared.map((tag) => [tag, ''] as const),
        ...profiles.flatMap(({ spec }) => Object.entries(spec.labelsToApply ?? {})),
      ]),
    };
  });
}

/** Reports whether a packet that leaves by the interface of `sender` with the address of `source` passes. */
function verdicts(endpoints: readonly Endpoint[]) {
  const isMember: Membership = ({ selector }, address) =>
    endpoints.some((one) => one.address === address && matches(selector, one.labels));
  return (sender: Endpoint, source: Endpoint, to: Endpoint | IpAddress): boolean => {
    const destination = typeof to === 'string' ? to : to.address;
    const ports = { sourcePort: 1, destinationPort: 2 };
    const packet = { source: source.address, destination, protocol: 6, ...ports };
    const passes = (direction: 'ingress' | 'egress', { profiles }: Endpoint) =>
      evaluateStack(judged(profiles), direction, { packet, isMember, hasNamedPort: () => false })
        .isAllowed;
    return passes('egress', sender) && (typeof to === 'string' || passes('ingress', to));
  };
}

test('internal networks are isolated, and a container on several reaches the peers of each by any interface', () => {
  const law = (all: readonly (readonly string[])[], open: boolean) => {
    const containers = all.map((names, index) => containerOn(names, index, open));
    const passes = verdicts(containers.flat());
    for (const from of containers) {
      const on = new Set(from.map(({ network }) => network));
      const isClosed = [...on].every(isInternal);
      const ways = from.flatMap((sender) => from.map((source) => ({ sender, source })));
      const others = containers.filter((one) => one !== from);
      for (const { sender, source } of ways) {
        assert.equal(passes(sender, source, outside), !isInternal(sender.network));
        for (const to of others.flat()) {
          const isReached = passes(sender, source, to);
          if (isInternal(to.network) && isReached) assert.ok(on.has(to.network), to.network);
          if (isInternal(to.network) && isClosed) assert.equal(isReached, on.has(to.network));
        }
        for (const to of others) {
          if (!isClosed || !to.some((one) => passes(sender, source, one))) continue;
          assert.ok(
            to.some(({ network }) => on.has(network)),
            'they have a network in common',
          );
        }
      }
    }
  };
  const lives = fc.array(someNetworks, { minLength: 2, maxLength: 5 });
  fc.assert(fc.property(lives, fc.boolean(), law));
});
