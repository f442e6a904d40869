/**
 * What a command ends with: one table for all of them, so that a script need not know which one it runs. What `no` is of
 * a command, its help says.
 *
 * `badInput` is for what only a person can mend: flags, files, keys, a model that a server does not have. What may be
 * there a minute later is `no`: a script tries again.
 */
export const exitCodes = { done: 0, no: 1, badInput: 2, ownFault: 70 } as const;

/** For `gpumix --help`. */
export const exitCodesHelp = `
Exit codes of every command:
  ${exitCodes.done}   done
  ${exitCodes.no}   the answer is no: infeasible, a service refused, findings, nothing measured; a server, Redis or cluster that cannot be reached; called off
  ${exitCodes.badInput}   bad input: the message names the flag, file, line or key, what was found and what was expected
  ${exitCodes.ownFault}  a fault of gpumix itself; DEBUG=1 prints where
`;
