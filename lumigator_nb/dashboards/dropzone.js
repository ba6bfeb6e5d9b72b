// Sends a file to the session in pieces, a few of them in flight at a time, and shows the progress.
const PIECE = 1 << 20, AT_ONCE = 4

const size = n => n < 1e6 ? `${Math.round(n / 1e3)} kB` : n < 1e9 ? `${(n / 1e6).toFixed(0)} MB` : `${(n / 1e9).toFixed(2)} GB`

const encoded = blob => new Promise((resolve, reject) => {
  const reader = new FileReader()
  reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1))
  reader.onerror = () => reject(reader.error)
  reader.readAsDataURL(blob)
})

export function render({model, el}) {
  const zone = document.createElement("div")
  zone.className = "zone"
  zone.innerHTML = `<label><input type="file"><b>Choose a file</b> or drop it here<span class="hint"></span></label>
    <div class="going" hidden><progress max="1" value="0" aria-label="Upload"></progress>
    <span class="said" role="status"></span><button type="button">Cancel</button></div>`
  el.append(zone)
  const input = zone.querySelector("input"), going = zone.querySelector(".going"), label = zone.querySelector("label")
  const bar = zone.querySelector("progress"), said = zone.querySelector(".said")
  zone.querySelector(".hint").textContent = model.hint
  let upload = null

  const rest = () => { upload = null; going.hidden = true; label.hidden = false; input.value = "" }

  const advance = async () => {
    const now = upload
    while (now && now === upload && !now.reading && now.sent < now.file.size && now.sent - now.kept < AT_ONCE * PIECE) {
      now.reading = true
      const start = now.sent, end = Math.min(start + PIECE, now.file.size)
      let piece
      try {
        piece = await encoded(now.file.slice(start, end))
      } catch (error) {
        model.send_msg({kind: "cancel"})
        rest()
        zone.querySelector(".hint").textContent = `The file cannot be read: ${error.message}`
        return
      }
      now.reading = false
      if (now !== upload) return
      now.sent = end
      model.send_msg({kind: "piece", data: piece})
    }
  }

  const begin = file => {
    if (!file || upload) return
    if (file.size > model.max_bytes) {
      zone.querySelector(".hint").textContent = `${file.name} has ${size(file.size)}; the limit is ${size(model.max_bytes)}`
      input.value = ""
      return
    }
    upload = {file, sent: 0, kept: 0, begun: performance.now(), reading: false}
    bar.value = 0
    said.textContent = file.name
    label.hidden = true
    going.hidden = false
    model.send_msg({kind: "begin", name: file.name, size: file.size})
  }

  model.on("msg:custom", answer => {
    if (answer.kind === "rest") return rest()
    if (!upload) return
    upload.kept = answer.kept
    const seconds = (performance.now() - upload.begun) / 1000, rate = upload.kept / Math.max(seconds, 0.001)
    const left = Math.ceil((upload.file.size - upload.kept) / Math.max(rate, 1))
    bar.value = upload.file.size ? upload.kept / upload.file.size : 1
    const pace = seconds > 1 ? `, ${size(rate)}/s, ${left} s left` : ""
    said.textContent = `${upload.file.name}: ${size(upload.kept)} of ${size(upload.file.size)}${pace}`
    advance()
  })
  input.addEventListener("change", () => begin(input.files[0]))
  zone.querySelector("button").addEventListener("click", () => { model.send_msg({kind: "cancel"}); rest() })
  zone.addEventListener("dragover", event => { event.preventDefault(); zone.classList.add("over") })
  zone.addEventListener("dragleave", () => zone.classList.remove("over"))
  zone.addEventListener("drop", event => {
    event.preventDefault()
    zone.classList.remove("over")
    begin(event.dataTransfer.files[0])
  })
}
