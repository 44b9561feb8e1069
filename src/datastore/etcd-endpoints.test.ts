import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { GRPCDeadlineExceededError, GRPCUnavailableError } from 'etcd3';
import { EtcdEndpoints } from './etcd-endpoints.ts';

const refused = () => new GRPCUnavailableError('14 UNAVAILABLE: connect ECONNREFUSED 192.0.2.1');
const late = () => new GRPCDeadlineExceededError('4 DEADLINE_EXCEEDED');

/** Endpoints whose calls fail as told, by name; without an error they respond with their name. */
function threeMembers() {
  const errors = new Map<string, Error>();
  const asked: string[] = [];
  const endpoints = new EtcdEndpoints(['a', 'b', 'c'], { attemptMs: 60, pauseMs: 1 });
  const call = (isRepeatable = true) =>
    endpoints.call(
      async (name) => {
        asked.push(name);
        const error = errors.get(name);
        if (error !== undefined) throw error;
        return name;
      },
      { isRepeatable },
    );
  return { endpoints, errors, asked, call };
}

describe('endpoints of etcd', () => {
  test('a call is made at another endpoint if one is lost, and later calls begin there', async () => {
    const { errors, asked, call } = threeMembers();
    errors.set('a', refused()).set('b', late());
    assert.deepEqual([await call(), await call(), await call()], ['c', 'c', 'c']);
    assert.deepEqual(asked, ['a', 'b', 'c', 'c', 'c']);
  });

  test('a call that may have been applied is repeated only if that is harmless', async () => {
    const { errors, asked, call } = threeMembers();
    errors.set('a', refused()).set('b', late());
    await assert.rejects(call(false), /DEADLINE/);
    assert.deepEqual(asked, ['a', 'b']);
    assert.equal(await call(false), 'c');
  });

  test('if none accepts a connection, each is tried once; otherwise until the time is over', async () => {
    const { errors, asked, call } = threeMembers();
    for (const name of ['a', 'b', 'c']) errors.set(name, refused());
    await assert.rejects(call(), /ECONNREFUSED/);
    assert.deepEqual(asked, ['a', 'b', 'c']);
    errors.set('b', new GRPCUnavailableError('14 UNAVAILABLE: etcdserver: leader changed'));
    await assert.rejects(call(), /ECONNREFUSED|leader changed/);
    assert.ok(asked.length > 9, 'a new leader is waited for');
  });

  test('while the only member restarts, a call waits if its caller has the time', async () => {
    const refusals = async (count: number, error: Error, refusedMs: number) => {
      const endpoints = new EtcdEndpoints(['a'], { attemptMs: 5000, pauseMs: 5, refusedMs });
      let asked = 0;
      return endpoints.call(async (name, { deadline }) => {
        if (++asked <= count) throw error;
        assert.ok(deadline > Date.now(), 'there is time for the response');
        return name;
      });
    };
    assert.equal(await refusals(20, refused(), 60_000), 'a');
    await assert.rejects(refusals(20, refused(), 0), /ECONNREFUSED/);
    await assert.rejects(refusals(Infinity, refused(), 50), /ECONNREFUSED/);
    const unknown = new GRPCUnavailableError('14 UNAVAILABLE: getaddrinfo ENOTFOUND etcd');
    await assert.rejects(refusals(2, unknown, 60_000), /ENOTFOUND/);
  });

  test('an error that every member would return is not repeated', async () => {
    const { errors, asked, call } = threeMembers();
    errors.set('a', new Error('etcdserver: permission denied'));
    await assert.rejects(call(), /permission denied/);
    assert.deepEqual(asked, ['a']);
  });

  test('a member that is shutting down is left for another one', async () => {
    const { errors, asked, call } = threeMembers();
    errors.set('a', new Error('2 UNKNOWN: Received HTTP status code 200'));
    assert.equal(await call(), 'b');
    assert.deepEqual(asked, ['a', 'b']);
  });

  test('a call that a change of users has overtaken is sent again, at the same endpoint', async () => {
    const { endpoints } = threeMembers();
    const asked: string[] = [];
    const errors = ['etcdserver: revision of auth store is old', 'auth: revision in header is old'];
    const answer = await endpoints.call(
      async (name) => {
        asked.push(name);
        const error = errors[asked.length - 1];
        if (error !== undefined) throw new Error(error);
        return name;
      },
      { isRepeatable: false },
    );
    assert.equal(answer, 'a');
    assert.deepEqual(asked, ['a', 'a', 'a']);
  });

  test('a stream is told that calls have moved to another endpoint', async () => {
    const { endpoints, errors, call } = threeMembers();
    const { client, left } = endpoints.preferred;
    assert.equal(client, 'a');
    await call();
    assert.equal(left.aborted, false);
    errors.set('a', late());
    await call();
    assert.equal(left.aborted, true);
    assert.deepEqual(endpoints.preferred.client, 'b');
    assert.equal(endpoints.preferred.left.aborted, false);
  });
});
