# A domain of vagrant-libvirt: `wanted` has its box, its settings by vagrant-libvirt's names, the bridge and hardware
# address of its interface, and its limits in libvirt's words; one that is only to be removed has neither of these.
require "rexml/document"

# vagrant-libvirt knows no such limits: they come into a domain's definition before it starts for the first time.
class Limits
  WANTED = {}

  def initialize(app, _env)
    @app = app
  end

  def call(env)
    client = env[:machine].provider.driver.connection.client
    definition = REXML::Document.new(client.lookup_domain_by_uuid(env[:machine].id).xml_desc)
    WANTED[env[:machine].name].each do |device, (kind, limits)|
      element = REXML::XPath.first(definition, "/domain/devices/#{device}").add_element(kind)
      limits.each { |name, limit| write(element.add_element(name), limit) }
    end
    client.define_domain_xml(definition.to_s)
    @app.call(env)
  end

  private

  def write(element, limit)
    limit.is_a?(Hash) ? element.add_attributes(limit) : element.text = limit
  end
end

class LimitsPlugin < Vagrant.plugin("2")
  name "greenroom-limits"
  action_hook(:limits, VagrantPlugins::ProviderLibvirt::Action::StartDomain) { |hook| hook.prepend(Limits) }
end

def provide(machine, wanted)
  machine.vm.box = wanted["box"]
  if wanted["bridge"]
    machine.vm.network :public_network, type: "bridge", dev: wanted["bridge"], mac: wanted["mac"], auto_config: false
  end
  machine.vm.provider :libvirt do |libvirt|
    Limits::WANTED[machine.vm.hostname.to_sym] = wanted["limits"]
    wanted["settings"].each { |key, value| libvirt.public_send("#{key}=", value) }
    libvirt.random model: "random"
    # Else it would wait for the lease of an address, which nodes do not have; an agent that is not there is asked once.
    libvirt.qemu_use_agent = true
    libvirt.mgmt_attach = false
    libvirt.graphics_type = "none"
  end
end
