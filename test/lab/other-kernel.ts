import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { builtProgram } from './built.ts';
import { ownEnvironment, runCommand } from './process.ts';

/** A command that runs another one in a kernel that has what this one lacks. */
const machine = process.env['CALICO_TEST_MACHINE'];

/** Reports whether this kernel has IP-in-IP. */
function hasIpip(): boolean {
  try {
    const add = 'ip link show tunl0 2>/dev/null || ip link add probe type ipip local 192.0.2.1';
    execFileSync('unshare', ['--net', 'sh', '-c', add], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/**
 * Adds a test that runs a test file again in a kernel that has IP-in-IP, where this one has not; skipped if there is
 * none. Returns the reason to skip the tests of the file here; `false` in a kernel that has it.
 */
export function whereIpipIs(file: string, timeoutMs: number): string | false {
  const isHere = hasIpip();
  const noKernel =
    machine === undefined
      ? 'this kernel has no IP-in-IP, and CALICO_TEST_MACHINE names no other'
      : false;
  const skip = isHere ? 'this kernel has it' : noKernel;
  test(`${file}, in a kernel that has IP-in-IP`, { skip, timeout: timeoutMs }, async () => {
    // Building takes longer there.
    await builtProgram();
    // In a kernel in user mode io_uring, which Node uses, ends the kernel.
    const enter = 'echo 2 >/proc/sys/kernel/io_uring_disabled; exec "$@"';
    const again = [process.execPath, '--test', '--test-force-exit', file];
    const argv = [machine ?? '', '--', 'sh', '-c', enter, 'sh', ...again];
    // With it Node would not run tests in a test.
    const { NODE_TEST_CONTEXT: _, ...environment } = ownEnvironment();
    const result = await runCommand(argv, {
      env: { ...environment, VMRUN_MEM: process.env['VMRUN_MEM'] ?? '6000' },
      timeoutMs,
    });
    process.stdout.write(result.stdout);
    assert.equal(result.status, 0, `${result.stdout}${result.stderr}`);
    assert.match(result.stdout, /^ℹ pass [1-9]/m);
  });
  return isHere ? false : 'tested in another kernel, if there is one';
}
