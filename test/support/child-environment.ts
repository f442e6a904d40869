/** Variables that gpumix acts on, and that a test sets itself where it means them. */
const meaningful = /^(GPUMIX_|REDIS_|KUBERNETES_|KUBECONFIG$)/;

/**
 * The environment of a program that a test starts: that of the test run, so that `npm test` recognises what is left
 * behind (it marks its run in the environment), without what would configure the program behind the test's back.
 */
export function childEnvironment(more: Readonly<Record<string, string>> = {}): Record<string, string | undefined> {
  const inherited = Object.entries(process.env).filter(([name]) => !meaningful.test(name));
  return { ...Object.fromEntries(inherited), ...more };
}
