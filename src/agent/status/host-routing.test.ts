import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plainEndpoint, plainNetwork } from '../../driver/endpoints/endpoint.fixture.ts';
import { parseAddress } from '../../ip/address.ts';
import { hostRoutingChecks } from './host-routing.ts';

const [eth0, cali1, main, other] = [2, 7, 254, 100];
const container4 = plainEndpoint(plainNetwork('here', 'n'), '1'.repeat(64), '10.65.0.1');
const container6 = plainEndpoint(plainNetwork('here', 'n'), '1'.repeat(64), '2001:db8::1');
const name = container4.spec.interfaceName;

/** Returns the checks of a host with these addresses, some of which have source-based routing rules. */
function checksOf(options: {
  readonly addresses: readonly string[];
  readonly routedElsewhere: readonly string[];
  readonly elsewhere?: { readonly table: number; readonly linkIndex: number } | undefined;
  readonly containers?: Parameters<typeof hostRoutingChecks>[1];
  readonly links?: readonly { readonly name: string; readonly index: number }[];
}) {
  const { elsewhere, containers = [container4], links = [{ name, index: cali1 }] } = options;
  const looked: string[] = [];
  const checks = hostRoutingChecks(
    {
      links: () => links,
      addresses: () => [
        { linkIndex: cali1, address: parseAddress('169.254.1.1') },
        ...options.addresses.map((one) => ({ linkIndex: eth0, address: parseAddress(one) })),
      ],
      lookUp: ({ destination, source }) => {
        looked.push(`${source} to ${destination}`);
        if (options.routedElsewhere.includes(source)) return elsewhere;
        return { table: main, linkIndex: cali1 };
      },
    },
    containers,
  );
  return { checks, looked };
}

test('no check if all host addresses have routes to containers', () => {
  const { checks, looked } = checksOf({
    addresses: ['192.0.2.1', '192.0.2.2'],
    routedElsewhere: [],
  });
  assert.deepEqual(checks, []);
  assert.deepEqual(looked, ['192.0.2.1 to 10.65.0.1', '192.0.2.2 to 10.65.0.1']);
});

test('a check names the addresses routed by another table, the table, and the command that fixes it', () => {
  const { checks } = checksOf({
    addresses: ['192.0.2.1', '198.51.100.1', '203.0.113.1'],
    routedElsewhere: ['198.51.100.1', '203.0.113.1'],
    elsewhere: { table: other, linkIndex: eth0 },
  });
  assert.deepEqual(checks, [
    {
      name: 'host routing',
      ok: false,
      detail:
        'a routing rule of this host (ip rule) sends traffic from 198.51.100.1, 203.0.113.1 to table 100, which has no routes to containers; from these addresses the host and containers cannot reach each other',
      remedy:
        'Look up addresses of containers in the main table first, for each IP pool: ip rule add to POOL lookup main priority 100',
    },
  ]);
});

test('no table is named if no table has a route', () => {
  const { checks } = checksOf({ addresses: ['192.0.2.1'], routedElsewhere: ['192.0.2.1'] });
  assert.match(checks[0]?.detail ?? '', /from 192\.0\.2\.1 to a table, which/);
});

test('each family looks up its own containers and names its own command', () => {
  const { checks, looked } = checksOf({
    addresses: ['192.0.2.1', '2001:db8:1::1'],
    routedElsewhere: ['2001:db8:1::1'],
    containers: [container4, container6],
  });
  assert.deepEqual(looked, ['192.0.2.1 to 10.65.0.1', '2001:db8:1::1 to 2001:db8::1']);
  assert.equal(checks.length, 1);
  assert.match(checks[0]?.detail ?? '', /\(ip -6 rule\) sends traffic from 2001:db8:1::1/);
  assert.match(checks[0]?.remedy ?? '', /: ip -6 rule add to POOL/);
});

test('loopback and link-local addresses, and addresses of container interfaces, are not looked up', () => {
  const { looked } = checksOf({
    addresses: ['127.0.0.1', '::1', 'fe80::1'],
    routedElsewhere: [],
    containers: [container4, container6],
  });
  assert.deepEqual(looked, []);
});

test('at most 16 addresses of a host are looked up', () => {
  const addresses = Array.from({ length: 50 }, (_, last) => `192.0.2.${last}`);
  assert.equal(checksOf({ addresses, routedElsewhere: [] }).looked.length, 16);
});

test('nothing is looked up without containers or container interfaces', () => {
  const addresses = ['192.0.2.1'];
  assert.deepEqual(checksOf({ addresses, routedElsewhere: [], containers: [] }).looked, []);
  assert.deepEqual(checksOf({ addresses, routedElsewhere: [], links: [] }).looked, []);
});
