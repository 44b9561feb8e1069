import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LabelledItems } from './labelled-items.ts';

test('the items that have a label, own or inherited, are those present, whatever other labels they have', () => {
  const items = new LabelledItems();
  const item = (labels: Readonly<Record<string, string>>, ...profiles: readonly string[]) => ({
    labels,
    profiles,
  });
  const [one, two, three] = [item({ ab: '1', c: '1' }), item({ a: '1', bc: '1' }), item({}, 'web')];
  items.add('1', one);
  items.add('2', two);
  items.add('3', three);
  items.add('4', item({ c: '2', ab: '' }));
  items.setParent('web', {}, { c: '' });
  const ids = (key: string) => [...items.ids(key)].toSorted();
  assert.deepEqual(
    [ids('ab'), ids('a'), ids('bc'), ids('c')],
    [['1', '4'], ['2'], ['2'], ['1', '3', '4']],
  );
  items.remove('1', one);
  assert.deepEqual([ids('ab'), ids('c')], [['4'], ['3', '4']]);
  items.setParent('web', { c: '' }, { a: '' });
  assert.deepEqual([ids('a'), ids('c')], [['2', '3'], ['4']]);
  assert.deepEqual([...items.children('web')], ['3']);
  items.remove('3', three);
  items.remove('2', two);
  assert.deepEqual([ids('a'), ids('bc'), [...items.children('web')]], [[], [], []]);
});

test('a label and a Profile of one name are told apart', () => {
  const items = new LabelledItems();
  items.add('1', { labels: { a: '', web: '' }, profiles: [] });
  items.add('2', { labels: { a: '' }, profiles: ['web'] });
  assert.deepEqual([[...items.ids('web')], [...items.children('web')]], [['1'], ['2']]);
});
