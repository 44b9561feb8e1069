import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SharedRequests } from './shared-requests.ts';

/** An engine whose responses the test triggers one by one, numbered. */
function engine() {
  const open: ((isAnswered: boolean) => void)[] = [];
  let sent = 0;
  const send = () => {
    const number = ++sent;
    return new Promise<number>((resolve, reject) => {
      open.push((isAnswered) =>
        isAnswered ? resolve(number) : reject(new Error(`no answer ${number}`)),
      );
    });
  };
  return { send, sent: () => sent, answer: (isAnswered = true) => open.shift()?.(isAnswered) };
}

test('callers during a pending request share the response of one later request', async () => {
  const questions = new SharedRequests();
  const { send, sent, answer } = engine();
  const first = questions.ask('containers', send);
  const second = questions.ask('containers', send);
  const third = questions.ask('containers', send);
  assert.equal(sent(), 1);
  answer();
  assert.equal(await first, 1);
  answer();
  assert.deepEqual(await Promise.all([second, third]), [2, 2]);
  assert.equal(sent(), 2);
});

test('a failed request is repeated for waiting callers, and other requests do not wait', async () => {
  const questions = new SharedRequests();
  const { send, answer } = engine();
  const first = questions.ask('containers', send);
  const second = questions.ask('containers', send);
  assert.equal(await questions.ask('info', async () => 'here'), 'here');
  answer(false);
  await assert.rejects(first, /no answer 1/);
  answer();
  assert.equal(await second, 2);
  const later = questions.ask('containers', send);
  answer();
  assert.equal(await later, 3);
});
