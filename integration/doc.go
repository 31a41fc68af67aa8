// Package integration holds the suites that prove the bus on real parts: Kafka
// and PostgreSQL in containers, consumers and producers in processes of their
// own that die of SIGKILL. It has no code but tests.
//
// What every suite demands, counted over every event by a ledger in the handlers'
// own database:
//
//   - lost 0: each published event has its effect by each handler of its type.
//   - doubled 0: it has it once, whatever crashed (I4).
//   - stray 0: nothing else has one.
//   - order breaks 0: each handler's effects of a key are in the key's order,
//     and each saw what its predecessor left behind (I3).
//   - each effect has its inbox row, and each row its effect (I4).
//   - the group's offsets reach the topic's ends and never pass a message that
//     is not finished (I5).
//
// A failure names the first offender by its ID, and shows what the processes
// wrote. Sizes are small in an ordinary run; TIDINGS_TEST_LONG=1 asks for the
// full ones. Without Docker the suites are skipped, and say so.
//
// # Budgets
//
// A suite that takes longer has failed: the budget is a guard against hanging,
// ten times as much at full size. It begins when the containers run.
//
//	TestAnEventPublishedByOneProcessHasItsEffectOnceAndInOrderInAnother    60 s
//	TestAnEventPublishedTwiceHasItsEffectOnce                              90 s
//	TestAProcessKilledInTheMiddleOfItsWorkLosesAndDoublesNothing          120 s
//	TestAProcessKilledInTheMiddleOfABatchLosesAndDoublesNothing           120 s
//	TestABrokerKilledAndRestartedLosesAndDoublesNothing                   180 s
//	TestMembersJoinAndLeaveWhileEveryTwentiethEventFails                  120 s
//	TestADatabaseKilledAndRestartedLosesAndDoublesNothing                 120 s
//	TestPublisherAndSubscriberSpeakTLSAndSCRAM                            120 s
//	TestAbortedTransactionsReachNoHandlerAndHoldNothingUp                  60 s
//	TestPartitionsMoveBetweenOneThreeAndTwoProcesses                      120 s
//	TestAStaticMemberThatComesBackInTimeMovesNoPartition                  180 s
//	TestAStaticMemberThatStaysAwayLosesItsPartitionsAfterItsSession       120 s
//	TestAStaticMemberThatWasReplacedReadsNothingMore                      120 s
//	TestAPartitionAddedWhileAStaticLeaderWasAwayIsGivenToAMember           90 s
//	TestAFaultyMessageParksItsOwnKeyUntilAFixedProcessAppliesIt            90 s
//	TestAMessageThatIsNoEventIsParkedAndTheOthersGoOn                      60 s
//	TestWhatKafkaRefusesIsAnErrorWithTheWayOut                             60 s
//	TestAnUnfitDatabaseIsAnErrorWithTheWayOut                              60 s
//	TestStockWatermillKafkaAndOursExchangeEventsBothWays                   60 s
//	TestPublisherAndSubscriberPassWatermillsOwnSuite                      180 s
//	TestDropInKilledInTheMiddleOfItsWorkLosesAndDoublesNothing            120 s
//	TestDropInsJoinAndLeaveWhileEveryTwentiethEventFails                  120 s
//	TestDropInOutlivesABrokerKilledAndRestarted                           180 s
//	TestPartitionsMoveBetweenOneThreeAndTwoDropIns                        120 s
//	TestDropInsThatComeAndGoInOrderRepeatNothing                          120 s
//	TestDropInPassesWatermillsOwnSuite                                    180 s
//	TestASuccessorHandsOutOnlyWhatItsKilledPredecessorHadNotFinished       90 s
//	TestRebalancesRepeatNothingAndPauseShortly                            180 s
//	TestWhateverFailsAndDiesParkedKeysAreDrainedInOrder                   300 s
//	TestNothingPassesAParkedKeyInManyRebalances                           180 s
//	TestADatabaseThatIsAwayParksNothingAndWorkGoesOnByItself              180 s
//	TestEditsAndDiscardsAreCarriedOutWhileMembersRunAndAudited            120 s
//	TestAGroupWithoutADatabaseParksInKafkaAndLosesNothing                 180 s
//	TestTheAuditSeesEveryKindOfFault                                       30 s
//	TestEverySuiteHasABudget                                                5 s
package integration
