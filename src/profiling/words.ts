/**
 * Ordinary short English words, each once, of which prompts are made. Common words are one token each in the usual
 * vocabularies, so that words and tokens nearly agree before anything is learnt of a server's tokenizer.
 */
export const promptWords: readonly string[] = `
able about above account across act action add after again age agree air all allow almost alone along already also
always among amount animal answer any appear apple area arm army around arrive art ask attack aunt away baby back bad
bag ball band bank bar base basic bath bear beat bed been before begin behind believe bell below best better between
big bill bird bit black block blood blow blue board boat body bone book born both bottom box boy branch bread break
bridge bright bring broad brother brown brush build burn bus busy but buy cake call calm camp can car card care carry
case castle cat catch cause cell center chair chance change check child choice choose church circle city claim class
clean clear clever climb clock close cloth cloud coal coast coat coffee cold collect color come common company compare
complete condition contain continue control cook cool copper copy corn corner cost cotton could count country course
court cover cow cream cross crowd cry cup current curve cut dance danger dark daughter day dead deal dear death decide
deep degree deliver depend desert design desk develop device dinner direct dirty discover dish distance divide doctor
dog door double doubt down draw dream dress drink drive drop dry duck dust duty each ear early earth east easy eat edge
effect egg eight either electric else empty end enemy energy engine enjoy enough enter equal even evening event ever
every exact example except excite exercise expect explain express eye face fact fail fair fall family famous far farm
fast fat father favor fear feed feel fellow felt fence few field fight figure fill film final find fine finger finish
fire firm first fish fit five fix flag flat floor flow flower fly follow food foot for force foreign forest forget form
forward four frame free fresh friend from front fruit full fun game garden gas gate gather general gentle get gift girl
give glad glass goal gold good govern grain grand grass gray great green ground group grow guess guide gun hair half
hall hand hang happen happy harbor hard hat have head hear heart heat heavy height help here hide high hill history hit
hold hole home hope horse hospital hot hotel hour house how huge human hundred hunt hurry ice idea if image inch include
increase industry insect inside interest into iron island issue join joy judge jump just keep key kill kind king kitchen
knee knife know lady lake lamp land language large last late laugh law lay lead leaf learn least leave left leg lemon
lend less lesson let letter level lie life lift light like limit line lion lip list listen little live lock long look
lose lot loud love low luck lunch machine main make man many map march mark market mass master match material matter may
meal mean measure meat meet member memory mention metal method middle might mile milk mill mind mine minute miss mistake
mix model modern moment money month moon more morning most mother motion motor mountain mouth move much music must nail
name narrow nation nature near neck need needle neighbor never new next nice night nine noise none noon north nose note
nothing notice now number object ocean offer office often oil old once one only open opinion orange order other our out
outside over own page pain paint pair paper parent park part party pass past path pattern pay peace pen pencil people
perfect perhaps period person picture piece place plain plan plant plate play please plenty point police poor popular
position possible post pot potato pound powder power present press pretty price print prison private prize problem
produce profit promise proof proper protect proud public pull pure push put quality quarter queen question quick quiet
quite radio rail rain raise range rather reach read ready real reason receive record red regular remain remember repeat
reply report rest result return rice rich ride right ring rise river road rock roll roof room root rope rose rough round
row royal rule run safe sail salt same sand save say scale school science sea search season seat second secret see seed
seem sell send sense serve set seven several shade shake shape share sharp sheep sheet shelf shine ship shirt shoe shop
shore short should shoulder shout show side sign silent silver simple since sing sister sit six size skill skin sky
sleep slip slow small smell smile smoke smooth snow soap social soft soil soldier some son song soon sort soul sound
soup south space speak special speech speed spell spend spot spread spring square stage stamp stand star start state
station stay steel steep stem step still stock stone stop store storm story straight strange stream street strong
student study subject such sudden sugar suit summer sun supply support sure surface sweet swim system table tail take
talk tall taste tax tea teach team tell ten term test than that their then there these thick thin thing think third
thirty this those though thought thousand thread three throw thumb ticket tie till time tin title today together
tomorrow tone too tool tooth top total touch toward tower town track trade train travel tree trip trouble truck true
trust try turn twelve twenty two type under until upon use usual valley value various very view village visit voice
wait walk wall want war warm wash waste watch water wave way weak wear weather week weight well west wet what wheel when
where whether which while white who whole why wide wife wild will win wind window wine wing winter wire wise wish with
without woman wonder wood word work world worry would write wrong yard year yellow yes yet young zero
`
  .trim()
  .split(/\s+/);
