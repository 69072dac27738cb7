# What Vagrant may ask of a machine.
module StrictOpenStack
  module Action
    include Vagrant::Action::Builtin

    # A step that does one thing with a machine's server and goes on.
    def self.step(&deed)
      Class.new do
        define_method(:initialize) { |app, _env| @app = app }
        define_method(:call) do |env|
          deed.call(env, Build.new(env[:machine]))
          @app.call(env)
        end
      end
    end

    ReadState = step { |env, build| env[:machine_state_id] = build.state }
    Create = step { |_, build| build.create }
    Delete = step { |_, build| build.destroy }
    Start = step { |_, build| build.order("os-start") }
    Stop = step { |_, build| build.order("os-stop") }
    ReadSSH = step { |env, build| env[:machine_ssh_info] = ssh_info(env[:machine], build) }

    def self.ssh_info(machine, build)
      ssh, config = machine.config.ssh, machine.provider_config
      info = {host: build.address, port: ssh.port || 22, username: ssh.username || config.ssh_username}
      own = ssh.insert_key && !config.keypair_name && !config.public_key_path
      own ? info.merge(private_key_path: machine.data_dir.join(build.key_name).to_s) : info
    end

    def self.chain(*steps)
      Vagrant::Action::Builder.new.tap { |chain| [ConfigValidate, *steps].each { |one| chain.use(one) } }
    end

    # A chain that goes on by the machine's state.
    def self.by_state(*first)
      chain(*first).tap do |chain|
        chain.use(Call, ReadState) { |env, rest| yield(env[:machine_state_id], rest, env[:machine]) }
      end
    end

    def self.unless_absent(*steps)
      by_state do |state, rest|
        rest.use(Message, "The server hasn't been created yet.") if state == :not_created
        steps.each { |one| rest.use(one) } unless state == :not_created
      end
    end

    def self.up
      by_state(HandleBox) do |state, rest, machine|
        case state
        when :not_created then made(machine).each { |one| rest.use(one) }
        when :shutoff then rest.use(Start)
        else rest.use(Message, "The server is already created.")
        end
      end
    end

    # A step that comes earlier does its work after those that follow it.
    def self.made(machine)
      quiet = machine.provider_config.ssh_disabled
      quiet ? [SyncedFolders, Create] : [Provision, SyncedFolders, Create, WaitForCommunicator]
    end

    def self.destroy = unless_absent(Delete)

    def self.halt = unless_absent(Stop)

    def self.provision = unless_absent(Provision, SyncedFolders)

    def self.read_state = chain(HandleBox, ReadState)

    def self.read_ssh_info = chain(ReadSSH)

    def self.ssh = unless_absent(SSHExec)

    def self.ssh_run = unless_absent(SSHRun)
  end
end
