import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr } from '../../ip/cidr.ts';
import type { Link } from '../netlink/link.ts';
import type { KernelRoute, Route } from '../netlink/route.ts';
import { routeClasses } from './route-classes.ts';
import { ConflictingRoutes } from './conflicting-routes.ts';
import { DesiredRoutes } from './desired-routes.ts';

const one = parseCidr('10.65.0.1/32');

function link(name: string, index: number, isUp = true): Link {
  return { name, index, isUp, mac: '', mtuBytes: 1500, hasCarrier: true, leadsOut: true };
}

function desired(): DesiredRoutes {
  const { endpoint, local, prefix, block } = routeClasses;
  // As a class that wants the same places with less right.
  return new DesiredRoutes({
    endpoint,
    prefix,
    block,
    local: { ...local, table: endpoint.table, rank: 1 },
  });
}

test('a route is planned while its interface is there and up', () => {
  const routes = desired();
  const place = routes.setDesired({ kind: 'endpoint', destination: one, interface: 'calia' });
  assert.equal(routes.planned(place), undefined);
  routes.setLink('calia', link('calia', 7, false));
  assert.equal(routes.planned(place), undefined);
  routes.setLink('calia', link('calia', 7));
  assert.deepEqual(routes.planned(place), {
    destination: one,
    table: 254,
    protocol: 80,
    type: 'unicast',
    scope: 'link',
    linkIndex: 7,
  });
  assert.deepEqual([...routes.by('calia')], [place]);
  assert.equal(routes.newOwner(place), 'calia');
  routes.setLink('calia', undefined);
  assert.equal(routes.planned(place), undefined);
  assert.equal(routes.nameOf(7), undefined);
});

test('no route uses an interface that has the name of a tunnel and is of another kind', () => {
  const routes = new DesiredRoutes(routeClasses, new Map([['vxlan.calico', 'vxlan']]));
  const via = { interface: 'vxlan.calico', gateway: parseAddress('10.65.0.64') };
  const place = routes.setDesired({ kind: 'block', destination: parseCidr('10.65.0.64/26'), via });
  for (const kind of ['dummy', undefined]) {
    routes.setLink('vxlan.calico', { ...link('vxlan.calico', 7), ...(kind && { kind }) });
    assert.equal(routes.planned(place), undefined);
  }
  routes.setLink('vxlan.calico', { ...link('vxlan.calico', 7), kind: 'vxlan' });
  assert.equal(routes.planned(place)?.linkIndex, 7);
});

test('of two classes in one place that of the lower rank has it, and the other when it goes', () => {
  const routes = desired();
  routes.setLinks([link('lo', 1), link('calia', 7)]);
  const place = routes.setDesired({ kind: 'local', destination: one });
  routes.setDesired({ kind: 'endpoint', destination: one, interface: 'calia' });
  assert.equal(routes.planned(place)?.type, 'unicast');
  assert.deepEqual([[...routes.by('lo')], [...routes.by('calia')]], [[place], [place]]);
  routes.deleteDesired({ kind: 'endpoint', destination: one });
  assert.equal(routes.planned(place)?.type, 'local');
  assert.equal(routes.newOwner(place), undefined);
  assert.deepEqual([[...routes.by('lo')], [...routes.by('calia')]], [[place], []]);
  routes.deleteDesired({ kind: 'local', destination: one });
  assert.equal(routes.has(place), false);
  assert.deepEqual([...routes.by('lo')], []);
});

test('only what a class calls its own is ours, by table, protocol and form', () => {
  const routes = new DesiredRoutes(routeClasses);
  routes.setLinks([link('lo', 1), link('calia', 7), link('eth0', 8)]);
  const toContainer: Route = {
    destination: one,
    table: 254,
    type: 'unicast',
    scope: 'link',
    linkIndex: 7,
  };
  const cases: readonly (readonly [Partial<Route>, boolean])[] = [
    [{}, true],
    [{ type: 'blackhole' }, true],
    [{ protocol: 12 }, false],
    [{ protocol: 4 }, false],
    [{ table: 100 }, false],
    [{ linkIndex: 8 }, false],
    [{ destination: parseCidr('10.65.0.0/26'), type: 'blackhole' }, false],
    [{ table: 255, type: 'local', linkIndex: 1 }, true],
    [{ table: 255, linkIndex: 1 }, false],
  ];
  for (const [change, isOwn] of cases) {
    const route = { protocol: 80, ...toContainer, ...change };
    const { destination, table, protocol, linkIndex } = route;
    const told: KernelRoute = { destination, table, protocol, linkIndex, metric: 0, route };
    assert.equal(routes.isOwn(told), isOwn, JSON.stringify(change));
  }
  const unknown = { destination: one, table: 254, protocol: 80, linkIndex: 7, metric: 0 };
  assert.equal(routes.isOwn({ ...unknown, route: undefined }), false, 'a type that we never make');
});

test('rivals of a place go with their route, or with their interface', () => {
  const conflicts = new ConflictingRoutes();
  const conflict = (metric: number, linkIndex: number): KernelRoute => ({
    destination: one,
    table: 254,
    protocol: 4,
    metric,
    linkIndex,
    route: undefined,
  });
  conflicts.add('a', conflict(10, 8));
  conflicts.add('a', conflict(5, 9));
  conflicts.add('a', conflict(5, 9));
  conflicts.add('b', conflict(5, 9));
  assert.equal(conflicts.first('a')?.metric, 5);
  assert.equal(conflicts.gone('a', conflict(7, 9)), false);
  assert.equal(conflicts.gone('a', conflict(5, 9)), true);
  assert.equal(conflicts.first('a')?.metric, 10);
  conflicts.forgetLink(8);
  assert.deepEqual(conflicts.places(), ['b']);
  assert.deepEqual([conflicts.has('a'), conflicts.has('b')], [false, true]);
  assert.equal(conflicts.gone('b', conflict(5, 9)), true);
  assert.deepEqual(conflicts.places(), []);
});
