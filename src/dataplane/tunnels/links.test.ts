import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { Links, type DesiredLink } from './links.ts';
import { FakeTunnels } from './tunnel-calls.fixture.ts';

const name = 'vxlan.calico';
const [tunnel, other] = [parseAddress('10.65.0.1'), parseAddress('10.65.0.2')];
const desired: DesiredLink = {
  name,
  is: { kind: 'vxlan', vni: 200, port: 4789, local: parseAddress('192.0.2.1'), under: 2 },
  mac: '66:00:00:00:00:01',
  mtuBytes: 1450,
  addresses: [tunnel],
};

function setup() {
  const kernel = new FakeTunnels();
  const links = new Links(kernel, new Map([[name, 'vxlan']]));
  const written = () => {
    kernel.journal.length = 0;
    links.apply();
    return [...kernel.journal];
  };
  return { kernel, links, written };
}

test('a desired link is made, configured and given its address, once', () => {
  const { links, written, kernel } = setup();
  links.setDesired(desired);
  assert.deepEqual(written(), [`make ${name}`, `configure ${name}`, `add ${tunnel}`]);
  assert.deepEqual(written(), []);
  links.resync();
  assert.deepEqual(written(), [], 'it is recognized');
  assert.equal(links.indexOf(name), kernel.links.get(name)?.index);
});

test('after a restart an equal link is kept, and one that nothing needs is removed', () => {
  const before = setup();
  before.links.setDesired(desired);
  before.links.apply();
  for (const isNeeded of [true, false]) {
    const again = new Links(before.kernel, new Map([[name, 'vxlan']]));
    before.kernel.journal.length = 0;
    if (isNeeded) again.setDesired(desired);
    again.apply();
    assert.deepEqual(before.kernel.journal, isNeeded ? [] : [`remove ${name}`]);
  }
});

test('MTU, MAC address, addresses and state change in place; other settings by a new link', () => {
  const { links, written, kernel } = setup();
  links.setDesired(desired);
  links.apply();
  links.setDesired({ ...desired, mtuBytes: 1400, mac: '66:00:00:00:00:02' });
  assert.deepEqual(written(), [`configure ${name}`]);
  assert.equal(kernel.links.get(name)?.mtuBytes, 1400);
  links.setDesired({ ...desired, addresses: [other] });
  assert.deepEqual(written(), [`configure ${name}`, `add ${other}`, `drop ${tunnel}`]);
  links.setDesired({
    ...desired,
    is: { ...desired.is, kind: 'vxlan', vni: 201, port: 4789, local: tunnel },
  });
  assert.deepEqual(written(), [
    `remove ${name}`,
    `make ${name}`,
    `configure ${name}`,
    `add ${tunnel}`,
  ]);
});

test('a change by another program is noticed and repaired; our own notifications are not', () => {
  const { links, written, kernel } = setup();
  links.setDesired(desired);
  links.apply();
  const made = kernel.links.get(name) ?? assert.fail();
  const address = { linkIndex: made.index, address: tunnel, prefixLength: 32 };
  assert.equal(links.linkChanged(made, false), false, 'our own');
  assert.equal(links.addressChanged(address, false), false, 'our own');
  assert.equal(links.linkChanged({ ...made, name: 'eth0' }, true), false, 'not ours');

  kernel.links.set(name, { ...made, isUp: false });
  assert.equal(links.linkChanged({ ...made, isUp: false }, false), true);
  assert.deepEqual(written(), [`configure ${name}`]);

  kernel.held.get(made.index)?.delete(tunnel);
  assert.equal(links.addressChanged(address, true), true);
  assert.deepEqual(written(), [`configure ${name}`, `add ${tunnel}`]);

  kernel.held.get(made.index)?.add(other);
  assert.equal(links.addressChanged({ ...address, address: other }, false), true);
  assert.deepEqual(written(), [`configure ${name}`, `drop ${other}`]);

  const ofLink = parseAddress('fe80::1');
  kernel.held.get(made.index)?.add(ofLink);
  assert.equal(links.addressChanged({ ...address, address: ofLink }, false), false);
  links.resync();
  assert.deepEqual(written(), [], "the kernel's own address stays");

  kernel.links.delete(name);
  assert.equal(links.linkChanged(made, true), true);
  assert.deepEqual(written(), [`make ${name}`, `configure ${name}`, `add ${tunnel}`]);
  assert.notEqual(links.indexOf(name), made.index);
  assert.equal(links.linkChanged(made, true), false, 'the old one, reported late');
});

test('a link with settings that we never give is made again', () => {
  const { links, written, kernel } = setup();
  kernel.add({ name, kind: 'vxlan' });
  links.setDesired(desired);
  assert.equal(written()[0], `remove ${name}`);
});

test('a link of our name and of another kind stays, and is reported', () => {
  const { links, written, kernel } = setup();
  kernel.add({ name, kind: 'dummy' });
  links.setDesired(desired);
  assert.deepEqual(written(), []);
  assert.match(links.failures()[0]?.why ?? '', /another interface of this name, of kind dummy/);
  assert.equal(links.indexOf(name), undefined);
  links.deleteDesired(name);
  assert.deepEqual(written(), []);
  assert.deepEqual(links.failures(), []);
  assert.ok(kernel.links.has(name));
});

test('a refused link is reported and retried; another desired state is tried at once', () => {
  const { links, written, kernel } = setup();
  kernel.refuses.add('mtu 1450');
  links.setDesired(desired);
  links.apply();
  assert.deepEqual(links.failures(), [{ what: `interface ${name}`, why: 'refused: mtu 1450' }]);
  assert.deepEqual(written(), [], 'not again at once');
  links.setDesired({ ...desired, mtuBytes: 1400 });
  assert.deepEqual(written(), [`configure ${name}`, `add ${tunnel}`]);
  assert.deepEqual(links.failures(), []);
});

const shared: DesiredLink = {
  name: 'tunl0',
  is: { kind: 'ipip' },
  mtuBytes: 1480,
  addresses: [tunnel],
};

/** A host on which the module ipip is loaded: the kernel has `tunl0`. */
function withModule() {
  const kernel = new FakeTunnels();
  const made = kernel.add({ name: 'tunl0', is: { kind: 'ipip' }, kind: 'ipip', mtuBytes: 1480 });
  const newLinks = () => new Links(kernel, new Map([['tunl0', 'ipip']]));
  const written = (links: Links) => {
    kernel.journal.length = 0;
    links.apply();
    return [...kernel.journal];
  };
  return { kernel, newLinks, written, index: made.index };
}

test("the kernel's own link is left alone until it is desired, then used, never made or removed", () => {
  const { kernel, newLinks, written, index } = withModule();
  const links = newLinks();
  assert.deepEqual(written(links), []);
  const idle = kernel.links.get('tunl0') ?? assert.fail();
  assert.equal(links.linkChanged(idle, false), false, 'others may do with it what they want');
  links.setDesired(shared);
  assert.deepEqual(written(links), ['configure tunl0', `add ${tunnel} as tunl0:calico`]);
  assert.equal(links.indexOf('tunl0'), index);
  assert.deepEqual(written(links), []);
  // It is down again, and has another MTU.
  kernel.links.set('tunl0', idle);
  assert.equal(links.linkChanged(idle, false), true);
  assert.deepEqual(written(links), ['configure tunl0']);
  links.deleteDesired('tunl0');
  assert.deepEqual(written(links), [`drop ${tunnel}`, 'down tunl0']);
  assert.deepEqual(written(links), []);
});

test('addresses of others on a shared link stay, and with them the link stays up', () => {
  const { kernel, newLinks, written, index } = withModule();
  kernel.held.get(index)?.add(other);
  const links = newLinks();
  links.setDesired(shared);
  assert.deepEqual(written(links), ['configure tunl0', `add ${tunnel} as tunl0:calico`]);
  links.resync();
  assert.deepEqual(written(links), []);
  links.deleteDesired('tunl0');
  assert.deepEqual(written(links), [`drop ${tunnel}`]);
  assert.deepEqual([...(kernel.held.get(index) ?? [])], [other]);
});

test('after a restart our address on a shared link is known by its label', () => {
  const { newLinks, written } = withModule();
  const before = newLinks();
  before.setDesired(shared);
  before.apply();
  const same = newLinks();
  same.setDesired(shared);
  assert.deepEqual(written(same), []);
  const moved = newLinks();
  moved.setDesired({ ...shared, addresses: [other] });
  assert.deepEqual(written(moved), [
    'configure tunl0',
    `add ${other} as tunl0:calico`,
    `drop ${tunnel}`,
  ]);
  assert.deepEqual(written(newLinks()), [`drop ${other}`, 'down tunl0'], 'no pool needs it');
  assert.deepEqual(written(newLinks()), []);
});

test('an address that Felix has given stays, without a label', () => {
  const { kernel, newLinks, written, index } = withModule();
  kernel.held.get(index)?.add(tunnel);
  const links = newLinks();
  links.setDesired(shared);
  assert.deepEqual(written(links), ['configure tunl0']);
  links.deleteDesired('tunl0');
  assert.deepEqual(written(links), [`drop ${tunnel}`, 'down tunl0']);
});

test('a tunnel of an administrator with the name of a shared link stays, and is reported', () => {
  const { kernel, newLinks, written } = withModule();
  kernel.add({ name: 'tunl0', is: { kind: 'ipip', remote: other }, kind: 'ipip' });
  const links = newLinks();
  links.setDesired(shared);
  assert.deepEqual(written(links), []);
  assert.match(links.failures()[0]?.why ?? '', /tunnel of its own with this name/);
});

test('a kernel without IP-in-IP is reported, and the link appears as soon as its module is loaded', () => {
  const kernel = new FakeTunnels();
  kernel.refuses.add('tunl0');
  const links = new Links(kernel, new Map([['tunl0', 'ipip']]));
  links.setDesired(shared);
  links.apply();
  assert.equal(links.failures()[0]?.what, 'interface tunl0');
  links.apply();
  assert.deepEqual(kernel.journal, [], 'not again at once');
  const loaded = kernel.add({ name: 'tunl0', is: { kind: 'ipip' }, kind: 'ipip' });
  assert.equal(links.linkChanged(loaded, false), true);
  links.apply();
  assert.deepEqual(kernel.journal, ['configure tunl0', `add ${tunnel} as tunl0:calico`]);
  assert.deepEqual(links.failures(), []);
});
